"""Formats of images: detection from the first bytes, the header, and the memory that decoding takes."""
