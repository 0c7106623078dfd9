"""Walkers of image containers: they find sizes, counts and metadata, decode nothing, and have limits on all they read.

Each module has the structure of one format. `reading.BoundedReader` holds the limits, so that no file of any format
costs more than 64 MiB of memory or a second of CPU.
"""
