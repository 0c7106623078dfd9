"""The stages: each takes a claim and finds out something about its image."""
