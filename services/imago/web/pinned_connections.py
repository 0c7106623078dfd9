"""Restrict an aiohttp session to connections to addresses that were checked."""

import contextlib
import socket
from ipaddress import ip_address
from types import SimpleNamespace

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from imago.core.errors import UrlRefused
from imago.web.address_policy import IPAddress


class PinnedConnections(AbstractResolver):
    """A resolver and socket factory of one session that allow connections only to the given addresses.

    aiohttp doesn't ask its resolver about a host that is an address, so the socket factory checks the address too, and
    the peer is checked once the connection is made.
    """

    def __init__(self, addresses: frozenset[IPAddress]) -> None:
        self._addresses = addresses
        self._sockets: list[socket.socket] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the given addresses for any host."""
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            # IPv4 first, because without an IPv6 route a connection attempt may only fail after a timeout.
            for address in sorted(self._addresses, key=lambda address: (address.version, int(address)))
        ]

    async def close(self) -> None:
        """Do nothing: the connector owns the sockets."""

    def make_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """Return a socket for an address that aiohttp connects to; raise UrlRefused."""
        family, kind, protocol, _, address = info
        self._check(str(address[0]))
        made = socket.socket(family, kind, protocol)
        self._sockets.append(made)
        return made

    async def verify_peer(
        self, session: aiohttp.ClientSession, context: SimpleNamespace, created: aiohttp.TraceConnectionCreateEndParams
    ) -> None:
        """Check the peer of a new connection before a request is sent; raise UrlRefused."""
        for made in self._sockets:
            # Of several concurrent attempts all but one are closed.
            with contextlib.suppress(OSError):
                self._check(str(made.getpeername()[0]))

    def _check(self, address: str) -> None:
        if ip_address(address) not in self._addresses:
            raise UrlRefused("The URL's host isn't on the public internet.")
