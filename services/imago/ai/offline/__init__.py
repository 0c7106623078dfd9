"""The offline provider: an image classifier and extractive text tools that run on this machine."""
