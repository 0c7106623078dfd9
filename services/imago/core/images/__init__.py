"""Images: reading, searching and changing them."""
