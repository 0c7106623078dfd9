"""Parse the untrusted URLs of clients and redirects into one canonical form.

The connection uses the parsed parts: the host in ASCII, an address as an address, the port as a number. A spelling that
parsers interpret differently is refused.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote, urljoin

import idna

from imago.core.errors import HostNotFound, UrlRefused
from imago.web.address_policy import IPAddress

MAX_URL_LENGTH = 2048

_DEFAULT_PORTS = {"http": 80, "https": 443}

# The ports of the web and their usual alternatives. Other ports below 1024 belong to services such as mail, and most
# internal services listen on ports above.
WEB_PORTS = frozenset({80, 443, 8080, 8443})

# Names that are never on the public web: RFC 6761, 6762, 7686 and 8375, `internal` as reserved by ICANN, and the two
# common ones `lan` and `localdomain`. This only saves DNS queries, because resolved addresses are checked anyway.
_PRIVATE_SUFFIXES = frozenset({"home.arpa", "internal", "lan", "local", "localdomain", "localhost", "onion", "test"})

# RFC 3986, appendix B, restricted to two schemes.
_URL = re.compile(r"(https?)://([^/?#]+)([^?#]*)(\?[^#]*)?(?:#.*)?", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@%]+))(?::([0-9]{0,5}))?")

# Letters, digits, hyphens, and the underscore, which is invalid but common in host names.
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
_MAX_NAME_LENGTH = 253

# A number for `inet_aton`. A host whose last label is one is an IPv4 address (WHATWG URL, "ends in a number").
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

# C0, DEL and C1, and the backslash, which only some parsers treat as a slash.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")

_PATH_SAFE = "/%:@!$&'()*+,;=~-._"


@dataclass(frozen=True)
class WebUrl:
    """A parsed URL of http or https. `address` is set if the host is an address."""

    scheme: str
    host: str
    address: IPAddress | None
    port: int
    target: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.target}"


def parse_url(text: str, *, ports: Collection[int] = WEB_PORTS) -> WebUrl:
    """Parse a URL; raise UrlRefused if Imago doesn't fetch such URLs, or HostNotFound.

    The caller checks that the address is public.
    """
    if len(text) > MAX_URL_LENGTH:
        raise UrlRefused(f"The URL is longer than {MAX_URL_LENGTH} characters.")
    if _FORBIDDEN.search(text):
        raise UrlRefused("The URL contains a control character or a backslash.")
    parts = _URL.fullmatch(text)
    if parts is None:
        raise UrlRefused("The URL must begin with http:// or https:// and have a host.")
    scheme, target = parts[1].lower(), _target(parts[3], parts[4] or "")
    authority = _AUTHORITY.fullmatch(parts[2])
    if authority is None:
        raise UrlRefused("The URL's host is invalid; user names, zone ids and percent signs are not allowed.")
    host, address = _ipv6(authority[1]) if authority[1] else _name_or_ipv4(authority[2])
    port = int(authority[3]) if authority[3] else _DEFAULT_PORTS[scheme]
    if port not in ports:
        raise UrlRefused(f"Pages are only fetched from the ports {', '.join(map(str, sorted(WEB_PORTS)))}.")
    return WebUrl(scheme, host, address, port, target)


def resolve_redirect(base: WebUrl, location: str, *, ports: Collection[int] = WEB_PORTS) -> WebUrl:
    """Return the URL of a redirect from `base`; raise UrlRefused."""
    # Checked before joining, because `urljoin` drops some forbidden characters.
    if len(location) > MAX_URL_LENGTH or _FORBIDDEN.search(location):
        raise UrlRefused("The page redirects to an invalid URL.")
    try:
        joined = urljoin(str(base), location)
    except ValueError:
        raise UrlRefused("The page redirects to an invalid URL.") from None
    return parse_url(joined, ports=ports)


def _target(path: str, query: str) -> str:
    try:
        # Bytes of a header that aren't UTF-8 are surrogates here, and are sent as the original bytes.
        quoted = [
            quote(part, safe=_PATH_SAFE + extra, errors="surrogateescape") for part, extra in ((path, ""), (query, "?"))
        ]
    except UnicodeEncodeError:
        raise UrlRefused("The URL contains half of a surrogate pair.") from None
    return (quoted[0] or "/") + quoted[1]


def _ipv6(text: str) -> tuple[str, IPv6Address]:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        raise UrlRefused("The URL's host is not a valid IPv6 address.") from None
    return str(address), address


def _name_or_ipv4(text: str) -> tuple[str, IPv4Address | None]:
    name = _ascii_name(text)
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        try:
            # This accepts only four decimal numbers without leading zeros.
            return name, IPv4Address(name)
        except AddressValueError:
            raise UrlRefused("An IPv4 address must be written as four decimal numbers.") from None
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME_LENGTH:
        raise UrlRefused("The URL's host must be a full host name with a dot.")
    if name.endswith(".invalid"):
        raise HostNotFound("The URL's host name does not exist; check its spelling.")
    if any(name.endswith(f".{suffix}") or name == suffix for suffix in _PRIVATE_SUFFIXES):
        raise UrlRefused("The URL's host isn't on the public internet.")
    return name, None


def _ascii_name(text: str) -> str:
    if len(text) > _MAX_NAME_LENGTH + 1:
        raise UrlRefused("The URL's host is too long.")
    if text.isascii():
        name = text.lower()
    else:
        try:
            name = idna.encode(text, uts46=True, std3_rules=True).decode("ascii").lower()
        except (idna.IDNAError, UnicodeError):
            raise UrlRefused("The URL's host is not a valid international name.") from None
    # The dot of the DNS root. A second dot would leave an empty label, which is refused later.
    return name.removesuffix(".")
