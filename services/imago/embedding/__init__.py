"""Embeddings by an operator's own model: an image and a text that describes it get similar vectors (CLIP, SigLIP)."""
