"""Functions on the bytes of images: format and header, EXIF, thumbnail, text. Decoders run in `imaging.sandbox`."""
