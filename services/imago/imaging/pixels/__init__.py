"""Pixels of untrusted images: decoding, orientation, sample depth, transparency and colour.

`decode.decode_image` is the one way from a file to an upright picture in sRGB; thumbnails, OCR and vision use it. It
runs in a child process (`imago.imaging.sandbox`), because no check of a header makes a decoder safe.
"""
