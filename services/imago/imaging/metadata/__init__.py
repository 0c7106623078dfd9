"""Metadata of images of any format: `exif` and `iptc` interpret it, `metadata_parts` finds it in a file."""
