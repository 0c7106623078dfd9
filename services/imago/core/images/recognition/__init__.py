"""What the offline recognition finds in images: concepts with their names, and features."""
