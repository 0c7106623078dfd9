"""The text of images: readings, words with their boxes, and what the API shows of them."""
