"""Pure functions over the bytes of images: format and header, thumbnail, EXIF, text."""
