"""The sandbox for decoding untrusted bytes: a pool of child processes with limits, the child, and its tasks."""
