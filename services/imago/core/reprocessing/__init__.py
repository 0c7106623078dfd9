"""Reprocess jobs: stages of many stored images run again, at a limited rate, beside live uploads."""
