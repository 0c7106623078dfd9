"""Whose address a request comes from, behind proxies that are trusted and proxies that aren't."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Read networks such as `10.0.0.0/8`; raise ValueError."""
    return tuple(ip_network(text, strict=False) for text in texts)


def client_address(peer: str, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """Return the address a request is counted under, given the `X-Forwarded-For` headers in their order.

    Each proxy adds the address it saw at the end, so the chain is read from there: the first that isn't a trusted proxy
    is the client. What stands before it was sent by the client and may say anything. A chain that can't be read ends at
    the last address that could.
    """
    seen = _address(peer)
    if seen is None:
        return peer
    for text in reversed([part for header in forwarded_for for part in header.split(",")]):
        if not _among(seen, trusted):
            break
        earlier = _address(text)
        if earlier is None:
            break
        seen = earlier
    return str(seen)


def subject_of(address: str) -> str:
    """Return what addresses of one customer share: an IPv6 address its /64, which is what one host is given."""
    found = _address(address)
    if isinstance(found, IPv6Address):
        return str(ip_network((int(found) >> 64 << 64, 64)))
    return str(found or address)


def _among(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in trusted)


@lru_cache(maxsize=1024)
def _address(text: str) -> Address | None:
    """Read an address as proxies write it: with a port, with brackets, as IPv4 in IPv6."""
    plain = text.strip()
    if plain.startswith("["):
        plain = plain[1:].partition("]")[0]
    elif plain.count(":") == 1:
        plain = plain.partition(":")[0]
    try:
        found = ip_address(plain.partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
