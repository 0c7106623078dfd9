"""Routes that read and change images."""
