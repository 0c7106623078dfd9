"""Object storage for originals and thumbnails: local files or S3, behind one `ObjectStore`."""
