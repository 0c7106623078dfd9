"""What people and their software say about a picture: XMP packets, IPTC-IIM records and the texts of EXIF."""
