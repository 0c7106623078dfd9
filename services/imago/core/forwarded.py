"""The address of a request's client, behind trusted and untrusted proxies."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Parse networks such as `10.0.0.0/8`; raise ValueError."""
    return tuple(ip_network(text, strict=False) for text in texts)


def client_address(peer: str, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """Return the client's address, given the `X-Forwarded-For` headers in order.

    Each proxy appends the address it saw, so the chain is read from its end: the first address that is not a trusted
    proxy is the client. Everything before it was sent by the client and may be forged. An unreadable entry ends the
    chain at the last readable address.
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
    """Return the rate-limit subject of an address: for IPv6 its /64 network, which is what one host gets."""
    found = _address(address)
    if isinstance(found, IPv6Address):
        return str(ip_network((int(found) >> 64 << 64, 64)))
    return str(found or address)


def _among(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in trusted)


@lru_cache(maxsize=1024)
def _address(text: str) -> Address | None:
    """Parse an address as proxies write it: with a port, in brackets, or IPv4 mapped to IPv6."""
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
