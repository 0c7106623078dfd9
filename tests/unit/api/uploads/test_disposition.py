"""The file name in the header of a form's part, as clients write it."""

import email.header
import email.message
import re
from urllib.parse import quote

import pytest
from aiohttp import FormData
from hypothesis import example, given
from hypothesis import strategies as st

from imago.api.uploads.disposition import MalformedDisposition, parse_disposition

NAMES = (
    "photo.jpg",
    "Été à la plage (1).png",
    "100%.png",
    "50% off.png",
    'say "cheese".jpg',
    "a;b; c.jpg",
    "it's.jpg",
    "a=b&c+d.jpg",
    "東京.jpg",
    "👨‍👩‍👧.jpg",
    "می‌خواهم.jpg",
    "x" * 200 + ".jpg",
    ".jpg",
    "no extension",
    "naïve~file_name-1.jpg",
)


def browser(name: str) -> str:
    escaped = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    return f'form-data; name="file"; filename="{escaped}"'


def backslashes(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'form-data; name="file"; filename="{escaped}"'


def extended(name: str) -> str:
    return f'form-data; name="file"; filename="{"_" * len(name)}"; filename*=UTF-8\'\'{quote(name, safe="")}'


def extended_first(name: str) -> str:
    return f"form-data; filename*=utf-8'fr'{quote(name).lower() if name.isascii() else quote(name)}; name=file"


def latin1_extended(name: str) -> str:
    encoded = quote(name, safe="", encoding="cp1252", errors="strict")
    return f"form-data; name=\"file\"; filename*=iso-8859-1''{encoded}"


def encoded_word(name: str) -> str:
    return f'form-data; name="file"; filename="{email.header.Header(name, "utf-8", maxlinelen=10_000).encode()}"'


def base64_words(name: str) -> str:
    return f'form-data; name="file"; filename="{email.header.Header(name, "utf-8", maxlinelen=60).encode(linesep="")}"'


def mail_library(name: str) -> str:
    message = email.message.EmailMessage()
    message.add_header("Content-Disposition", "form-data", name="file", filename=name)
    return re.sub(r"\n\s+", " ", message.as_bytes().decode().split("\n\n")[0].removeprefix("Content-Disposition: "))


def aiohttp_encoded(name: str) -> str:
    form = FormData()
    form.add_field("file", b"", filename=name)
    return next(iter(form()))[0].headers["Content-Disposition"]  # type: ignore[union-attr]


def latin1_bytes(name: str) -> str:
    return f'form-data; name="file"; filename="{name}"'.encode("cp1252").decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("write", [browser, backslashes, extended, extended_first])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_read_as_it_was_before_the_client_wrote_it(write, name: str) -> None:
    if write is extended_first and name.isascii():
        name = name.lower()
    assert parse_disposition(write(name)) == parse_disposition(extended(name))
    assert parse_disposition(write(name)).filename == name


@pytest.mark.parametrize("name", NAMES)
def test_a_percent_encoded_name_is_decoded_if_the_client_is_known_to_encode_every_name(name: str) -> None:
    assert parse_disposition(aiohttp_encoded(name), percent_encoded=True).filename == name


@pytest.mark.parametrize("name", [name for name in NAMES if name != "100%.png"])
def test_a_percent_encoded_name_is_recognized_by_its_form(name: str) -> None:
    assert parse_disposition(aiohttp_encoded(name)).filename == name


@pytest.mark.parametrize("write", [encoded_word, base64_words, mail_library])
@pytest.mark.parametrize("name", [name for name in NAMES if not name.isascii()])
def test_encodings_of_mail_are_decoded(write, name: str) -> None:
    assert parse_disposition(write(name)).filename == name


@pytest.mark.parametrize("write", [latin1_bytes, latin1_extended])
@pytest.mark.parametrize("name", ["Été.jpg", "señor – 5 €.jpg", "plain.jpg"])
def test_latin_1_is_decoded(write, name: str) -> None:
    assert parse_disposition(write(name)).filename == name


@pytest.mark.parametrize(
    ("header", "filename"),
    [
        (r'form-data; name="file"; filename="C:\fakepath\a.jpg"', r"C:\fakepath\a.jpg"),
        (r'form-data; name="file"; filename="\\server\new\a.jpg"', r"\server\new\a.jpg"),
        ('form-data; name="file"; filename="C:\\dir\\"', "C:\\dir\\"),
        ('form-data; name="file"; filename="an "unescaped" quote.jpg"', 'an "unescaped" quote.jpg'),
        ("form-data; name=file; filename=two words.jpg", "two words.jpg"),
        ('form-data;name="file";filename="a.jpg";', "a.jpg"),
        ('FORM-DATA; NAME="file"; FileName = "a.jpg" ', "a.jpg"),
        ('form-data; name="file"; filename=""', ""),
        ('form-data; name="file"', None),
        ('attachment; name="file"; filename="a.jpg"; size=3', "a.jpg"),
        ('form-data; name="file"; filename="a.jpg"; filename*=utf-8\'\'%ff', "a.jpg"),
        ('form-data; name="file"; filename="a.jpg"; filename*=klingon\'\'x', "a.jpg"),
        ('form-data; name="file"; filename="a.jpg"; filename*=no-quotes', "a.jpg"),
        ('form-data; name="file"; filename*="UTF-8\'\'%C3%A9.jpg"', "é.jpg"),
        ('form-data; name="file"; filename="100%25.png"', "100%25.png"),
        ('form-data; name="file"; filename="100% caf%C3%A9.png"', "100% caf%C3%A9.png"),
        ('form-data; name="file"; filename="caf%C3%A9%20(1).png"', "café (1).png"),
        ('form-data; name="file"; filename="%zz.png"', "%zz.png"),
        ('form-data; name="file"; filename="%ff%fe.png"', "%ff%fe.png"),
        ('form-data; name="file"; filename="=?klingon?Q?a?=.png"', "=?klingon?Q?a?=.png"),
    ],
)
def test_unusual_and_broken_headers(header: str, filename: str | None) -> None:
    assert parse_disposition(header).filename == filename
    assert parse_disposition(header).field == "file"


@pytest.mark.parametrize(
    "header",
    [
        'form-data; name="file"; filename="a.jpg"; filename="b.jpg"',
        'form-data; name="file"; name="other"',
        'form-data; name="file"; filename="a.jpg',
        "form-data; name",
        "form-data; =x",
        "form-data name=file",
    ],
)
def test_ambiguous_headers_are_refused(header: str) -> None:
    with pytest.raises(MalformedDisposition):
        parse_disposition(header)


def test_a_part_without_the_header_has_no_names() -> None:
    assert parse_disposition(None) == parse_disposition("") == parse_disposition("form-data")


@given(st.text(max_size=300))
@example('form-data; name="' + '\\"; ' * 60)
@example("form-data; filename*0*='';filename*1=\ud800")
def test_no_header_raises_anything_else(text: str) -> None:
    header = f'form-data; name="file"; filename="{text}"'.encode("utf-8", "replace").decode("utf-8", "surrogateescape")
    for candidate in (header, text.encode("utf-8", "replace").decode()):
        try:
            parse_disposition(candidate)
        except MalformedDisposition:
            continue
