"""Search in a client's images: by words, by their beginnings, and by meaning."""
