"""What happens to every request around its handler, one concern a module."""
