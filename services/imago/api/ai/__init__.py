"""Routes that call the text provider."""
