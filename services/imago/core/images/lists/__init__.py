"""Lists of images: filters, places, similarity and orders."""
