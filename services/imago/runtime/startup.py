"""Startup of processes: their one error, the directory of models, and binding of sockets."""

import os
import resource
import socket
from pathlib import Path

_MAX_FILES = 10_240


class StartupError(Exception):
    """The process cannot start; the text is one line for the user."""


def models_directory() -> Path:
    """Return the user's cache directory of models, which `MODEL_DIR` replaces."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imago" / "models"


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


def raise_file_limit() -> int:
    """Raise the limit of open files to the most that the process may set, and return it.

    The usual soft limit of 1,024 is for programs that use select(2); 1,024 idle connections would keep an API from
    accepting others.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS reports no limit but refuses to set that.
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
