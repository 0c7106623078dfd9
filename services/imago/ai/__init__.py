"""What describes an image or a text: one provider protocol, and the providers."""
