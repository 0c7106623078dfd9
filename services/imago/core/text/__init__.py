"""Texts and their languages: cleaning, detection, and names of languages."""
