"""The server: the applications, their connections, and limits on the time and memory of requests."""
