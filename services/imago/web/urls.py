"""Reading the URLs that tenants and redirects give: hostile until read, and then written in one way only.

What is read here is what the connection goes to: the host in ASCII, an address as an address, the port as a number. A
spelling that could be read in two ways is refused rather than guessed at.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote, urljoin

import idna

from imago.core.errors import UrlRefused
from imago.web.address_policy import IPAddress

MAX_URL_LENGTH = 2048

_DEFAULT_PORTS = {"http": 80, "https": 443}

# The web's own ports and their usual second ones. Nothing below 1024 beside the first two, so that no mail or database
# server can be spoken to; and not all above, because that is where most internal services listen.
WEB_PORTS = frozenset({80, 443, 8080, 8443})

# Names that never lead to the public web: RFC 6761, 6762, 7686 and 8375, `internal` as ICANN reserved it, and two that
# are in use all the same. Only to spare the question: where a name leads to is checked anyway.
_PRIVATE_SUFFIXES = frozenset(
    {"home.arpa", "internal", "invalid", "lan", "local", "localdomain", "localhost", "onion", "test"}
)

# RFC 3986, appendix B, for the two schemes there are.
_URL = re.compile(r"(https?)://([^/?#]+)([^?#]*)(\?[^#]*)?(?:#.*)?", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@%]+))(?::([0-9]{0,5}))?")

# Letters, digits, hyphens; and the underscore, which some hosts have although they shouldn't.
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
_MAX_NAME_LENGTH = 253

# What `inet_aton` takes for a number; a name whose last label is one is an address (WHATWG URL, "ends in a number").
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

# C0, DEL and C1, and the backslash, which browsers read as a slash and others don't.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")

_PATH_SAFE = "/%:@!$&'()*+,;=~-._"


@dataclass(frozen=True)
class WebUrl:
    """A URL of http or https as it will be asked for; `address` is set where the host is one."""

    scheme: str
    host: str
    address: IPAddress | None
    port: int
    target: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.target}"


def read_url(text: str, *, ports: Collection[int] = WEB_PORTS) -> WebUrl:
    """Read a URL; raise UrlRefused where it is none that Imago fetches. Whether its address is public isn't told."""
    if len(text) > MAX_URL_LENGTH:
        raise UrlRefused(f"The URL is longer than {MAX_URL_LENGTH} characters.")
    if _FORBIDDEN.search(text):
        raise UrlRefused("The URL holds a control character or a backslash.")
    parts = _URL.fullmatch(text)
    if parts is None:
        raise UrlRefused("The URL must begin with http:// or https:// and name a host.")
    scheme, target = parts[1].lower(), _target(parts[3], parts[4] or "")
    authority = _AUTHORITY.fullmatch(parts[2])
    if authority is None:
        raise UrlRefused("The URL's host can't be read; user names, zone ids and percent signs have no place in it.")
    host, address = _ipv6(authority[1]) if authority[1] else _name_or_ipv4(authority[2])
    port = int(authority[3]) if authority[3] else _DEFAULT_PORTS[scheme]
    if port not in ports:
        raise UrlRefused(f"Pages are fetched from the ports {', '.join(map(str, sorted(WEB_PORTS)))} alone.")
    return WebUrl(scheme, host, address, port, target)


def join_url(base: WebUrl, reference: str, *, ports: Collection[int] = WEB_PORTS) -> WebUrl:
    """Read where a redirect leads to; raise UrlRefused."""
    # Before joining, which drops some of them.
    if len(reference) > MAX_URL_LENGTH or _FORBIDDEN.search(reference):
        raise UrlRefused("The page redirects to a URL that can't be read.")
    try:
        joined = urljoin(str(base), reference)
    except ValueError:
        raise UrlRefused("The page redirects to a URL that can't be read.") from None
    return read_url(joined, ports=ports)


def _target(path: str, query: str) -> str:
    try:
        # Headers hold bytes that aren't UTF-8 as surrogates; they are sent back as the bytes they were.
        quoted = [
            quote(part, safe=_PATH_SAFE + extra, errors="surrogateescape") for part, extra in ((path, ""), (query, "?"))
        ]
    except UnicodeEncodeError:
        raise UrlRefused("The URL holds half of a surrogate pair.") from None
    return (quoted[0] or "/") + quoted[1]


def _ipv6(text: str) -> tuple[str, IPv6Address]:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        raise UrlRefused("The URL's host is no IPv6 address.") from None
    return str(address), address


def _name_or_ipv4(text: str) -> tuple[str, IPv4Address | None]:
    name = _ascii_name(text)
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        try:
            # Four decimal numbers without leading zeros, and nothing else.
            return name, IPv4Address(name)
        except AddressValueError:
            raise UrlRefused("An IPv4 address must be written as four decimal numbers.") from None
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME_LENGTH:
        raise UrlRefused("The URL's host must be the full name of a host, with a dot in it.")
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
            raise UrlRefused("The URL's host is no valid international name.") from None
    # The root's dot; a second one leaves an empty label, which is refused.
    return name.removesuffix(".")
