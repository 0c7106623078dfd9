"""Hostile URLs: parsed into one canonical form, or refused."""

import asyncio
import ipaddress

import pytest

from imago.core.errors import UrlRefused
from imago.web.address_policy import refusal_reason
from imago.web.resolver import UnknownHost
from imago.web.urls import MAX_URL_LENGTH, parse_url, resolve_redirect
from tests.support.ssrf import TECHNIQUES, bypass_urls, harmless_urls, resolve_with_libc


def test_no_spelling_of_an_internal_address_is_accepted() -> None:
    urls = bypass_urls(8080)
    assert len(urls) >= 300
    assert len(TECHNIQUES) >= 25
    accepted = {}
    for url, technique in urls.items():
        try:
            parsed = parse_url(url)
        except UrlRefused:
            continue
        if parsed.address is not None:
            addresses = [parsed.address]
        else:
            try:
                addresses = [ipaddress.ip_address(text) for text in asyncio.run(resolve_with_libc(parsed.host))]
            except UnknownHost:
                continue
        if all(refusal_reason(address) is None for address in addresses):
            accepted[url] = technique
    assert not accepted, f"accepted: {accepted}"


def test_harmless_urls_are_accepted() -> None:
    urls = harmless_urls()
    assert len(urls) >= 100
    for url in urls:
        parsed = parse_url(url)
        assert parsed.address is None or refusal_reason(parsed.address) is None, url


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("HTTP://Example.COM", "http://example.com/"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("http://example.com:443/a", "http://example.com:443/a"),
        ("http://example.com./", "http://example.com/"),
        ("http://example.com:/", "http://example.com/"),
        ("https://Bücher.example/é?q=ü#part", "https://xn--bcher-kva.example/%C3%A9?q=%C3%BC"),
        ("http://example.com/a b%20c?x=1?2", "http://example.com/a%20b%20c?x=1?2"),
        ("http://example.com?q", "http://example.com/?q"),
        ("http://ⓔⓧⓐⓜⓟⓛⓔ.ⓒⓞⓜ", "http://example.com/"),
        ("http://[2606:4700:0:0:0:0:0:1]/", "http://[2606:4700::1]/"),
    ],
)
def test_a_url_has_one_canonical_form(text: str, canonical: str) -> None:
    assert str(parse_url(text)) == canonical
    assert str(parse_url(canonical)) == canonical, "the canonical form must not change"


@pytest.mark.parametrize("port", [21, 22, 25, 79, 81, 110, 143, 5432, 6379, 8000, 9200, 11211, 27017, 65535])
def test_ports_other_than_those_of_the_web_are_refused(port: int) -> None:
    with pytest.raises(UrlRefused):
        parse_url(f"http://example.com:{port}/")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/" + "a" * MAX_URL_LENGTH,
        "http://" + "a" * 64 + ".com/",
        "http://" + "a." * 127 + "com/",
        "http://-a.com/",
        "http://a-.com/",
        "http://a..com/",
        "http://.com/",
        "http://example.com/\ud800",
        "http://exa mple.com/",
        "http://example.com/\r\nX: y",
    ],
)
def test_invalid_urls_are_refused(url: str) -> None:
    with pytest.raises(UrlRefused):
        parse_url(url)


@pytest.mark.parametrize(
    ("location", "canonical"),
    [
        ("/b", "https://example.com/b"),
        ("c?d#e", "https://example.com/a/c?d"),
        ("//other.example/x", "https://other.example/x"),
        ("http://other.example", "http://other.example/"),
        ("/\udce9t\udce9", "https://example.com/%E9t%E9"),
    ],
)
def test_a_redirect_is_resolved_against_its_page(location: str, canonical: str) -> None:
    assert str(resolve_redirect(parse_url("https://example.com/a/b"), location)) == canonical


@pytest.mark.parametrize("location", ["http://[", "\\\\127.0.0.1\\", "//user@127.0.0.1/", "ftp://x.example/", "a\tb"])
def test_an_invalid_redirect_is_refused(location: str) -> None:
    with pytest.raises(UrlRefused):
        resolve_redirect(parse_url("https://example.com/a/b"), location)
