"""Hostile URLs: read in one way, or not at all."""

import asyncio
import ipaddress

import pytest

from imago.core.errors import UrlRefused
from imago.web.address_policy import refusal_reason
from imago.web.resolver import UnknownHost
from imago.web.urls import MAX_URL_LENGTH, resolve_redirect, parse_url
from tests.support.ssrf import TECHNIQUES, ask_libc, bypass_urls, harmless_urls


def test_no_spelling_of_an_internal_address_is_accepted() -> None:
    urls = bypass_urls(8080)
    assert len(urls) >= 300
    assert len(TECHNIQUES) >= 25
    accepted = {}
    for url, technique in urls.items():
        try:
            read = parse_url(url)
        except UrlRefused:
            continue
        if read.address is not None:
            found = [read.address]
        else:
            try:
                found = [ipaddress.ip_address(text) for text in asyncio.run(ask_libc(read.host))]
            except UnknownHost:
                continue
        if all(refusal_reason(address) is None for address in found):
            accepted[url] = technique
    assert not accepted, f"accepted: {accepted}"


def test_harmless_urls_are_read() -> None:
    urls = harmless_urls()
    assert len(urls) >= 100
    for url in urls:
        read = parse_url(url)
        assert read.address is None or refusal_reason(read.address) is None, url


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
def test_a_url_is_written_in_one_way(text: str, canonical: str) -> None:
    assert str(parse_url(text)) == canonical
    assert str(parse_url(canonical)) == canonical, "reading it again must change nothing"


@pytest.mark.parametrize("port", [21, 22, 25, 79, 81, 110, 143, 5432, 6379, 8000, 9200, 11211, 27017, 65535])
def test_ports_beside_the_webs_own_are_refused(port: int) -> None:
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
def test_what_no_browser_sends_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused):
        parse_url(url)


@pytest.mark.parametrize(
    ("reference", "canonical"),
    [
        ("/b", "https://example.com/b"),
        ("c?d#e", "https://example.com/a/c?d"),
        ("//other.example/x", "https://other.example/x"),
        ("http://other.example", "http://other.example/"),
        ("/\udce9t\udce9", "https://example.com/%E9t%E9"),
    ],
)
def test_a_redirect_is_read_from_where_it_stands(reference: str, canonical: str) -> None:
    assert str(resolve_redirect(parse_url("https://example.com/a/b"), reference)) == canonical


@pytest.mark.parametrize("reference", ["http://[", "\\\\127.0.0.1\\", "//user@127.0.0.1/", "ftp://x.example/", "a\tb"])
def test_a_redirect_that_cant_be_read_is_refused(reference: str) -> None:
    with pytest.raises(UrlRefused):
        resolve_redirect(parse_url("https://example.com/a/b"), reference)
