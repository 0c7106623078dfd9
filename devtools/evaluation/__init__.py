"""The set of `make evaluate`: pages that are drawn, and photos of installed packages, with labels."""
