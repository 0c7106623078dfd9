"""Imago: upload an image, read back its camera, its text and what is in it."""

__version__ = "0.1.0"
