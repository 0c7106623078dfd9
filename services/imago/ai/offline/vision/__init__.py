"""What the offline models see in an image, and how it is said."""
