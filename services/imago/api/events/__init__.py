"""The event stream of a client (Server-Sent Events)."""
