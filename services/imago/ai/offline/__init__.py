"""The offline providers: an image classifier and extractive text tools that need no network."""
