"""SSRF attacks: spellings of internal addresses, a server that must not be reached, and fake resolvers."""

import asyncio
import base64
import contextlib
import ipaddress
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from imago.web.resolver import UnknownHost

PUBLIC_IPV4, PUBLIC_IPV6 = "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"

# A second loopback address, which Linux has by default.
SITE = "127.0.0.2"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Canary:
    """A server on 127.0.0.1 that counts all connections, with and without a request."""

    port: int = 0
    requests: list[str] = field(default_factory=list)
    connections: int = 0


@contextlib.asynccontextmanager
async def canary() -> AsyncIterator[Canary]:
    """Run a canary."""
    counted = Canary()

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counted.connections += 1
        counted.requests.append((await reader.read(200)).decode(errors="replace"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nsecret")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(count, "127.0.0.1", 0)
    counted.port = server.sockets[0].getsockname()[1]
    async with server:
        yield counted


@contextlib.asynccontextmanager
async def site(*routes: tuple[str, Handler]) -> AsyncIterator[TestServer]:
    """Serve pages on `SITE`, for fetchers that may connect to it, but not to the canary."""
    app = web.Application()
    for path, handler in routes:
        app.router.add_get(path, handler)
    server = TestServer(app, host=SITE)
    await server.start_server()
    yield server
    await server.close()


@dataclass
class Wire:
    """The addresses of attempted connections. Only those to loopback are made, so that no test leaves the machine."""

    attempts: list[str] = field(default_factory=list)

    def cut(self, monkeypatch: pytest.MonkeyPatch) -> "Wire":
        """Record the connections of this thread, and block those that are not to loopback."""
        connect = socket.socket.connect
        here = threading.get_ident()

        def guarded(sock: socket.socket, address: tuple[str, int]) -> None:
            if threading.get_ident() != here:
                # A proxy of another test, which lasts for the session, runs in its own thread.
                connect(sock, address)
                return
            self.attempts.append(address[0])
            if not ipaddress.ip_address(address[0]).is_loopback:
                raise ConnectionRefusedError
            connect(sock, address)

        monkeypatch.setattr(socket.socket, "connect", guarded)
        return self


def resolver(names: dict[str, Sequence[str]], default: Sequence[str] = ()) -> Callable[[str], Awaitable[Sequence[str]]]:
    """Return a resolver with the given names, and with `default` for other names."""

    async def resolve(host: str) -> Sequence[str]:
        found = names.get(host, default)
        if not found:
            raise UnknownHost(host)
        return found

    return resolve


async def resolve_with_libc(host: str) -> Sequence[str]:
    """Resolve like a careless client, with `inet_aton` and the hosts file, and without DNS queries."""
    try:
        return [socket.inet_ntoa(socket.inet_aton(host))]
    except (OSError, UnicodeError):
        pass
    if host.rstrip(".") == "localhost" or host.endswith((".localhost", ".nip.io", ".localtest.me")):
        return ["127.0.0.1"]
    raise UnknownHost(host)


# Targets of attacks: this machine, private networks and metadata services of clouds.
TARGETS = (
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
)

Technique = Callable[[str], Iterator[str]]


def _number(target: str) -> int:
    return int(ipaddress.IPv4Address(target))


def _parts(target: str) -> list[int]:
    return [int(part) for part in target.split(".")]


def _groups(target: str) -> str:
    number = _number(target)
    return f"{number >> 16:x}:{number & 0xFFFF:x}"


def _fullwidth(text: str) -> str:
    return "".join(chr(ord(char) + 0xFEE0) if char.isdigit() else char for char in text)


def _circled(text: str) -> str:
    return "".join("⓪①②③④⑤⑥⑦⑧⑨"[int(char)] if char.isdigit() else char for char in text)


def _teredo(target: str) -> str:
    hidden = _number(target) ^ 0xFFFFFFFF
    return f"2001:0:4136:e378:8000:63bf:{hidden >> 16:x}:{hidden & 0xFFFF:x}"


# Each returns hosts that some parser, resolver or network takes for the target.
TECHNIQUES: dict[str, Technique] = {
    "as it is": lambda t: iter([t]),
    "decimal number": lambda t: iter([str(_number(t))]),
    "hexadecimal number": lambda t: iter([hex(_number(t)), hex(_number(t)).upper().replace("X", "x")]),
    "octal number": lambda t: iter([f"0{_number(t):o}"]),
    "octal parts": lambda t: iter([".".join(f"0{part:o}" for part in _parts(t))]),
    "padded octal parts": lambda t: iter([".".join(f"000{part:o}" for part in _parts(t))]),
    "hexadecimal parts": lambda t: iter([".".join(hex(part) for part in _parts(t))]),
    "mixed parts": lambda t: iter([f"{_parts(t)[0]}.0x{_parts(t)[1]:x}.0{_parts(t)[2]:o}.{_parts(t)[3]}"]),
    "three parts": lambda t: iter([f"{_parts(t)[0]}.{_parts(t)[1]}.{_number(t) & 0xFFFF}"]),
    "two parts": lambda t: iter([f"{_parts(t)[0]}.{_number(t) & 0xFFFFFF}"]),
    "overflowing parts": lambda t: iter([".".join(str(part + 256) for part in _parts(t))]),
    "overflowing number": lambda t: iter([str(_number(t) + 2**32)]),
    "leading zeros": lambda t: iter([".".join(f"{part:04d}" for part in _parts(t))]),
    "trailing dot": lambda t: iter([f"{t}.", f"{t}.."]),
    "fullwidth digits": lambda t: iter([_fullwidth(t)]),
    "circled digits": lambda t: iter([_circled(t)]),
    "ideographic full stops": lambda t: iter([t.replace(".", "。"), t.replace(".", "．"), t.replace(".", "｡")]),
    "percent-encoded": lambda t: iter(["".join(f"%{ord(char):02x}" for char in t), t.replace(".", "%2e")]),
    "soft hyphen within": lambda t: iter([f"{t[0]}\u00ad{t[1:]}", f"{t}\u200b"]),
    "IPv4-mapped": lambda t: iter([f"[::ffff:{t}]", f"[::ffff:{_groups(t)}]", f"[0:0:0:0:0:ffff:{_groups(t)}]"]),
    "IPv4-compatible": lambda t: iter([f"[::{t}]", f"[::{_groups(t)}]"]),
    "IPv4-translated": lambda t: iter([f"[::ffff:0:{_groups(t)}]"]),
    "NAT64": lambda t: iter([f"[64:ff9b::{t}]", f"[64:ff9b::{_groups(t)}]"]),
    "local NAT64": lambda t: iter([f"[64:ff9b:1::{_groups(t)}]", f"[64:ff9b:1:ffff::{t}]"]),
    "6to4": lambda t: iter([f"[2002:{_groups(t)}::]", f"[2002:{_groups(t)}::1]"]),
    "Teredo": lambda t: iter([f"[{_teredo(t)}]"]),
    "ISATAP": lambda t: iter([f"[2606:4700::5efe:{t}]", f"[2606:4700::200:5efe:{t}]"]),
    "zone id": lambda t: iter([f"[::ffff:{t}%25lo]", f"[::ffff:{t}%lo]", "[fe80::1%25eth0]"]),
    "user name": lambda t: iter([f"example.com@{t}", f"example.com:80@{t}", f"{t}@{t}"]),
    "user name, encoded": lambda t: iter([f"example.com%40{t}", f"example.com%2f@{t}"]),
    "backslash": lambda t: iter([f"{t}\\@example.com", f"example.com\\@{t}"]),
    "control character": lambda t: iter([f"{t}\t", f"{t[:2]}\n{t[2:]}", f"{t}\r\nHost: {t}", f"{t}\0.example.com"]),
    "white space": lambda t: iter([f" {t}", f"{t} .example.com", f"{t}\u3000"]),
    "brackets": lambda t: iter([f"[{t}]", f"[[{t}]]", f"[::1]@{t}", f"[::1]{t}"]),
    "fragment before": lambda t: iter([f"{t}#@example.com", f"{t}?@example.com", f"{t};example.com"]),
    "wildcard name service": lambda t: iter([f"{t}.nip.io"]),
    "name in another's": lambda t: iter([f"{t.replace('.', '-')}.attacker.example"]),
    "rebinding name": lambda t: iter([f"rebind.{t}.attacker.example"]),
}

LOCAL_NAMES = (
    "localhost",
    "LOCALHOST",
    "localhost.",
    "app.localhost",
    "localtest.me",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "ｌｏｃａｌｈｏｓｔ",
    "local\u00adhost",
    "metadata",
    "metadata.google.internal",
    "instance-data",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "printer.local",
    "router.lan",
    "nas.home.arpa",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[fc00::1]",
    "[100::1]",
    "[2001:db8::1]",
    "[v1.127.0.0.1]",
)

SCHEMES = (
    "ftp://{host}/",
    "file:///etc/passwd",
    "file://{host}/etc/passwd",
    "gopher://{host}:{port}/_GET%20/",
    "dict://{host}:{port}/info",
    "ldap://{host}:{port}/",
    "ws://{host}:{port}/",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
    "data:text/html;base64," + base64.b64encode(b"<p>x</p>").decode(),
    "javascript:fetch('http://{host}:{port}/')",
    "jar:http://{host}:{port}/!/",
    "view-source:http://{host}:{port}/",
    "//{host}:{port}/",
    "/{host}:{port}/",
    "{host}:{port}",
    "http:{host}:{port}/",
    "http:/{host}:{port}/",
    "http:///{host}:{port}/",
    "http:\\\\{host}:{port}\\",
    "http://http://{host}:{port}/",
    " http://{host}:{port}/",
    "\x01http://{host}:{port}/",
    "\ufeffhttp://{host}:{port}/",
    "ht\ttp://{host}:{port}/",
    "url:http://{host}:{port}/",
    "http://{host}:{port}:80/",
    "http://{host}:+{port}/",
    "http://{host}:-1/",
    "http://{host}:65616/",
    "http://{host}:٨٠/",
    "http://:{port}/",
    "http://@{host}:{port}/",
    "http://",
    "",
)


def bypass_urls(port: int) -> dict[str, str]:
    """Return all attack URLs with their technique. None of them may be fetched."""
    found: dict[str, str] = {}
    for target in TARGETS:
        for name, technique in TECHNIQUES.items():
            for host in technique(target):
                # A port after a fragment or query mark would not belong to the host.
                url = f"http://{host}" if set(host) & set("#?;") else f"http://{host}:{port}/"
                found.setdefault(url, name)
    for host in LOCAL_NAMES:
        found.setdefault(f"http://{host}:{port}/", "local name")
        found.setdefault(f"https://{host}:{port}/", "local name")
    for scheme in SCHEMES:
        found.setdefault(scheme.format(host="127.0.0.1", port=port), "scheme or form")
    return found


HARMLESS_HOSTS = (
    "example.com",
    "www.example.com",
    "EXAMPLE.com",
    "example.com.",
    "en.wikipedia.org",
    "a.b.c.d.example.org",
    "xn--bcher-kva.example",
    "bücher.example",
    "пример.example",
    "例え.example",
    "münchen.example",
    "été.example",
    "faß.example",
    "1and1.example",
    "127.example.com",
    "0x7f.example.com",
    "localhost.example.com",
    "internal.example.com",
    "my-host.example.com",
    "under_score.example.com",
    "93.184.215.14",
    "1.1.1.1",
    "8.8.8.8",
    "[2606:4700:4700::1111]",
    "[2001:4860:4860::8888]",
)

HARMLESS_FORMS = (
    "https://{host}/",
    "http://{host}:8080/path/to/page.html?query=1&other=a%20b#part",
    "HTTPS://{host}",
    "https://{host}:8443/été/ein Pfad?q=Straße&u=http://127.0.0.1/@x",
)


def harmless_urls() -> list[str]:
    """Return 100 ordinary URLs."""
    return [form.format(host=host) for host in HARMLESS_HOSTS for form in HARMLESS_FORMS]
