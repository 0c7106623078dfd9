"""Composes the processes of Imago from the settings."""
