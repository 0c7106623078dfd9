"""Startup of processes: their one error, and binding of sockets."""

import socket


class StartupError(Exception):
    """The process cannot start; the text is one line for the user."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address; port 0 takes a free one. Raises StartupError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, ValueError) as error:
        # A name with an empty or overlong part is a UnicodeError, which is a ValueError.
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise StartupError(f"cannot listen on {host}:{port}: {reason}") from error
    return listener
