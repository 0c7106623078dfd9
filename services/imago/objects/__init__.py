"""Where the bytes of images lie: local files or S3, behind one `ObjectStore`."""
