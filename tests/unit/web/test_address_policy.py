"""Public addresses: examples, the edges of the refused networks, and comparisons with two other libraries."""

import ipaddress
import random
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest
from AntiSSRF import AntiSSRFPolicy, IPAddressRanges, PolicyConfigOptions
from drawbridge import Policy
from drawbridge._exceptions import BlockedAddressError
from drawbridge._validator import PRIVATE_IP_RANGES, check_ip

from imago.web.address_policy import IPAddress, refusal_reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("127.0.0.1", "loopback"),
        ("0.0.0.0", "this network"),
        ("10.255.255.255", "private"),
        ("100.127.255.255", "carrier-grade NAT"),
        ("169.254.169.254", "metadata"),
        ("169.254.1.1", "link-local"),
        ("168.63.129.16", "metadata"),
        ("192.0.0.192", "metadata"),
        ("198.19.255.255", "benchmark"),
        ("203.0.113.7", "documentation"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::127.0.0.1", "IPv4-compatible"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:8.8.8.8", None),
        ("::ffff:0:127.0.0.1", "IPv4-translated"),
        ("64:ff9b::10.0.0.1", "private"),
        ("64:ff9b::8.8.8.8", None),
        ("64:ff9b:1::808:808", "local NAT64"),
        ("2002:7f00:1::", "6to4"),
        ("2001:0:1::1", "Teredo"),
        ("2001:db8::1", "documentation"),
        ("2606:4700::5efe:10.0.0.1", "ISATAP"),
        ("2606:4700::200:5efe:10.0.0.1", "ISATAP"),
        ("fe80::1", "link-local"),
        ("fec0::1", "site-local"),
        ("fd00:ec2::254", "metadata"),
        ("fd12::1", "unique-local"),
        ("ff02::1", "multicast"),
        ("4000::1", "reserved"),
        ("2606:4700:4700::1111%eth0", "zone id"),
        ("2606:4700:4700::1111", None),
        ("8.8.8.8", None),
        ("172.15.255.255", None),
        ("172.32.0.0", None),
        ("100.63.255.255", None),
        ("100.128.0.0", None),
        ("168.63.129.15", None),
    ],
)
def test_an_address_has_the_reason_of_its_network(text: str, reason: str | None) -> None:
    assert refusal_reason(ipaddress.ip_address(text)) == reason


def _embedded(inner: IPv4Address) -> Iterator[IPv6Address]:
    low = int(inner)
    for prefix in ("::ffff:0:0", "::", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::", "2606:4700::5efe:0:0"):
        yield IPv6Address(int(IPv6Address(prefix)) + low)
    yield IPv6Address(int(IPv6Address("2002::")) + (low << 80))
    yield IPv6Address(int(IPv6Address("2001::")) + (low ^ 0xFFFFFFFF))


def _addresses() -> set[IPAddress]:
    """Return the edges of every refused network, their neighbours, and a seeded sample of other addresses."""
    chance = random.Random(20261124)
    networks = [*PRIVATE_IP_RANGES, *map(ipaddress.ip_network, IPAddressRanges.recommended_latest)]
    networks += [
        ipaddress.ip_network(text) for text in ("2000::/3", "3ffe::/16", "::/96", "fec0::/10", "168.63.129.16")
    ]
    found: set[IPAddress] = set()
    for network in networks:
        first, last = int(network[0]), int(network[-1])
        kind = type(network[0])
        for number in (first - 1, first, first + 1, (first + last) // 2, last - 1, last, last + 1):
            if 0 <= number < 2**network.max_prefixlen:
                found.add(kind(number))
        found.update(kind(chance.randint(first, last)) for _ in range(40))
    for four in [address for address in found if isinstance(address, IPv4Address)]:
        found.update(_embedded(four))
    found.update(IPv4Address(chance.getrandbits(32)) for _ in range(6000))
    found.update(IPv6Address(chance.getrandbits(128)) for _ in range(2000))
    found.update(IPv6Address((1 << 125) | chance.getrandbits(125)) for _ in range(4000))
    return found


def _reached_by_nat64(address: IPAddress) -> bool:
    """Return whether an address has NAT64's well-known prefix and a public IPv4 address.

    The other libraries refuse the whole prefix. IPv6-only clusters reach all of IPv4 through it, and the connection
    goes to the IPv4 address that was checked (RFC 6052).
    """
    nat64 = ipaddress.IPv6Network("64:ff9b::/96")
    return address.version == 6 and address in nat64 and refusal_reason(IPv4Address(address.packed[-4:])) is None


def test_addresses_that_drawbridge_or_microsofts_antissrf_refuse_are_refused() -> None:
    microsoft, policy = AntiSSRFPolicy(PolicyConfigOptions.EXTERNAL_ONLY_LATEST), Policy()

    def drawbridge_refuses(address: IPAddress) -> bool:
        try:
            check_ip("host", address, policy)
        except BlockedAddressError:
            return True
        return False

    addresses = _addresses()
    assert len(addresses) >= 10_000, f"only {len(addresses)} addresses were compared"
    refused_by_others = {
        address
        for address in addresses
        if drawbridge_refuses(address) or not microsoft._is_network_connection_allowed([str(address)])
    }
    accepted = {address for address in refused_by_others if refusal_reason(address) is None}
    expected = {address for address in accepted if _reached_by_nat64(address)}
    print(f"{len(addresses)} addresses, {len(refused_by_others)} refused by others, {len(expected)} differences")
    assert len(refused_by_others) > 2000, "the other libraries refuse almost nothing: did their API change?"
    assert accepted == expected, f"only the other libraries refuse these: {sorted(map(str, accepted - expected))[:20]}"


def test_addresses_that_microsofts_antissrf_allows_are_not_refused() -> None:
    microsoft = AntiSSRFPolicy(PolicyConfigOptions.EXTERNAL_ONLY_LATEST)
    chance = random.Random(7)
    addresses: list[IPAddress] = [IPv4Address(chance.getrandbits(32)) for _ in range(3000)]
    addresses += [IPv6Address((0x26 << 120) | chance.getrandbits(120)) for _ in range(3000)]
    ordinary = [address for address in addresses if microsoft._is_network_connection_allowed([str(address)])]
    refused = {str(address): refusal_reason(address) for address in ordinary if refusal_reason(address) is not None}
    assert not refused, f"only Imago refuses these: {refused}"
