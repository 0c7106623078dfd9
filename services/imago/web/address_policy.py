"""Decide whether an address is on the public internet, so that a client's URL can't reach internal networks (SSRF).

This module has its own tables, because `ipaddress` differs between versions of Python, and its `is_global` of 3.11
accepts NAT64, 6to4, multicast, `::127.0.0.1` and Azure's wire server.
Sources: the IANA special-purpose address registries for IPv4 and IPv6 (RFC 6890 and its updates), and the
documentation of the cloud providers for their metadata services.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

IPAddress = IPv4Address | IPv6Address

# The first network that contains an address determines the reason, so single addresses precede larger networks.
_REFUSED_IPV4 = tuple(
    (IPv4Network(network), reason)
    for network, reason in (
        ("100.100.100.200/32", "metadata"),  # Alibaba Cloud
        ("168.63.129.16/32", "metadata"),  # Azure's wire server, among public addresses
        ("169.254.169.254/32", "metadata"),  # AWS, Azure, Google, Oracle, DigitalOcean
        ("169.254.170.2/32", "metadata"),  # AWS ECS
        ("192.0.0.192/32", "metadata"),  # Oracle Cloud
        ("255.255.255.255/32", "broadcast"),
        ("0.0.0.0/8", "this network"),  # Linux connects 0.0.0.0 to the machine itself.
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "AS112"),
        ("192.52.193.0/24", "AMT"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "AS112"),
        ("198.18.0.0/15", "benchmark"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)

_REFUSED_IPV6 = tuple(
    (IPv6Network(network), reason)
    for network, reason in (
        ("fd00:ec2::254/128", "metadata"),  # AWS
        ("fd20:ce::254/128", "metadata"),  # Google
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("64:ff9b:1::/48", "local NAT64"),  # RFC 8215: each network decides where the IPv4 address is.
        ("100::/64", "discard"),
        ("100:0:0:1::/64", "discard"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("2620:4f:8000::/48", "AS112"),
        ("3ffe::/16", "6bone"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "unique-local"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)

# IANA allocates global unicast addresses only from this network.
_GLOBAL_UNICAST = IPv6Network("2000::/3")

# Addresses in these networks contain an IPv4 address, which is checked instead. IPv6-only clusters reach all of IPv4
# through DNS64 and the well-known prefix of NAT64 (RFC 6052), so it can't be refused as a whole.
_IPV4_EMBEDDING = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))

# The upper half of an ISATAP interface identifier, which ends with an IPv4 address (RFC 5214). The mask ignores the bit
# that marks the address as globally unique.
_ISATAP, _ISATAP_MASK = 0x00005EFE, 0xFDFFFFFF


def refusal_reason(address: IPAddress) -> str | None:
    """Return why an address is not on the public internet, as a short reason for the log; None if it is."""
    if isinstance(address, IPv4Address):
        return next((reason for network, reason in _REFUSED_IPV4 if address in network), None)
    if address.scope_id is not None:
        return "zone id"
    if any(address in network for network in _IPV4_EMBEDDING):
        return refusal_reason(IPv4Address(address.packed[-4:]))
    for network, reason in _REFUSED_IPV6:
        if address in network:
            return reason
    if address not in _GLOBAL_UNICAST:
        return "reserved"
    if (int(address) >> 32) & _ISATAP_MASK == _ISATAP:
        return "ISATAP"
    return None
