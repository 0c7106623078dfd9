"""Resolve host names with the system's resolver, in threads."""

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

# An unresponsive name server blocks a thread for half a minute, so page fetches have their own threads.
THREADS = 8

_UNKNOWN_HOST_ERRORS = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class UnknownHost(Exception):
    """The name has no address."""


class SystemResolver:
    """Resolves host names with `getaddrinfo`."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="resolver")

    async def resolve(self, host: str) -> Sequence[str]:
        """Return the addresses of a host name; raise UnknownHost or OSError."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, _addresses, host)
        except socket.gaierror as error:
            if error.errno in _UNKNOWN_HOST_ERRORS:
                raise UnknownHost(host) from None
            raise

    def close(self) -> None:
        """Stop the threads without waiting for them."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _addresses(host: str) -> list[str]:
    # The trailing dot disables the search list, which in a cluster would find services.
    results = socket.getaddrinfo(f"{host}.", None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(result[4][0]) for result in results))
