"""The HTTP API: application factory, middlewares, routes and schemas."""
