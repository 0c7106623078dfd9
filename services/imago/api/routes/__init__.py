"""The routes, one module a resource; each has a `routes` list of what it serves."""
