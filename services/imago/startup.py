"""Sockets that a process listens on."""

import socket


class PortInUse(Exception):
    """The address can't be listened on; the text is one line for a person."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address, port 0 for a free one; raise PortInUse."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortInUse(f"can't listen on {host}:{port}: {error.strerror}") from error
    return listener
