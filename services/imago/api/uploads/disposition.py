"""The Content-Disposition header of a form's part: the name of the field, and the file name as its sender knows it.

Clients write file names in several ways (docs/integrate.md has a table), and the header does not say in which:

- `filename*` with charset and percent-encoding (RFC 8187) is exact, and takes precedence;
- raw bytes, as UTF-8 by all current clients, and as Latin-1 by some old ones;
- browsers replace only the quote and line breaks, by `%22`, `%0D` and `%0A` (HTML, "multipart/form-data encoding");
- others escape quotes and backslashes by a backslash, or the whole name by percent-encoding (RFC 7578, section 4.2)
  or as encoded words (RFC 2047).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header
from urllib.parse import quote, unquote_to_bytes

_PLAIN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TYPE = re.compile(rf"\s*{_PLAIN}\s*")
# A quote inside a quoted string is tolerated if no parameter ends there, and so is a backslash before the last quote.
_QUOTED = r'"((?:[^"\\]|\\.|\\(?="\s*(?:;|\Z))|"(?!\s*(?:;|\Z)))*)"'
_PARAMETER = re.compile(rf";\s*({_PLAIN})\s*=\s*(?:{_QUOTED}|([^;\"]*))\s*", re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')
_EXTENDED = re.compile(r"([\w-]*)'[^']*'(.*)", re.DOTALL)
_ENCODED_WORD = re.compile(r"=\?[\w-]{1,40}\?[BbQq]\?[!->@-~]*\?=")
_ESCAPES = {"%22": '"', "%0D": "\r", "%0A": "\n"}
_ESCAPE = re.compile("|".join(_ESCAPES))
# No client that encodes whole names leaves a space, a percent sign or anything outside of ASCII.
_PERCENT_ENCODED = re.compile(r"(?:[!-$&-~]|%[0-9A-Fa-f]{2})+")

# Browsers and the WHATWG Encoding standard take ISO-8859-1 and ASCII for windows-1252, which only adds characters.
_CODECS = {
    **dict.fromkeys(("", "utf-8", "utf8"), "utf-8"),
    **dict.fromkeys(("us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252"), "cp1252"),
    **{name: name for name in ("iso-8859-2", "iso-8859-15", "windows-1250", "windows-1251", "koi8-r", "big5")},
    **{name: name for name in ("shift_jis", "euc-jp", "iso-2022-jp", "gb2312", "gbk", "gb18030", "euc-kr")},
}


class MalformedDisposition(ValueError):
    """The header can't be read; the text is the reason."""


@dataclass(frozen=True)
class PartNames:
    """The name of a part's field, and its file name, both None if the header has none."""

    field: str | None
    filename: str | None


def parse_disposition(header: str | None, *, percent_encoded: bool = False) -> PartNames:
    """Return the names in a header whose bytes are UTF-8 or surrogates; raise MalformedDisposition.

    `percent_encoded` says that the client is known to percent-encode every file name.
    """
    parameters = _parameters(header or "")
    field = parameters.get("name")
    return PartNames(
        _extended(parameters.get("name*")) or (None if field is None else _text(field)),
        _filename(parameters, percent_encoded=percent_encoded),
    )


def _parameters(header: str) -> dict[str, str]:
    """Return the parameters by their names; each character of a value is a byte."""
    text = header.encode("utf-8", "surrogateescape").decode("latin-1")
    kind = _TYPE.match(text)
    at = kind.end() if kind else 0
    found: dict[str, str] = {}
    while text[at:].strip("; \t"):
        match = _PARAMETER.match(text, at)
        if match is None:
            raise MalformedDisposition("a Content-Disposition header is malformed")
        name, quoted, token = match[1].lower(), match[2], match[3]
        if name in found:
            raise MalformedDisposition(f"a Content-Disposition header has two parameters `{name}`")
        found[name] = token.strip() if quoted is None else _ESCAPED.sub(r"\1", quoted)
        at = match.end()
    return found


def _filename(parameters: Mapping[str, str], *, percent_encoded: bool) -> str | None:
    name = _extended(parameters.get("filename*"))
    if name is None and "filename" in parameters:
        name = _decode(_text(parameters["filename"]), percent_encoded=percent_encoded)
    return _continued(parameters) if name is None else name


def _text(value: str) -> str:
    data = value.encode("latin-1")
    for codec in ("utf-8", "cp1252"):
        try:
            return data.decode(codec)
        except UnicodeDecodeError:
            continue
    return value


def _extended(value: str | None) -> str | None:
    """Return the text of an extended parameter (RFC 8187), or None if it is invalid."""
    match = _EXTENDED.fullmatch(value or "")
    if match is None:
        return None
    return _decoded(unquote_to_bytes(match[2].encode("latin-1")), match[1])


def _continued(parameters: Mapping[str, str]) -> str | None:
    """Return a file name that is divided into numbered parameters (RFC 2231), as mail libraries write it."""
    data, charset, number = b"", "", 0
    while True:
        plain, encoded = parameters.get(f"filename*{number}"), parameters.get(f"filename*{number}*")
        if plain is None and encoded is None:
            return _decoded(data, charset) if number else None
        if encoded is not None and number == 0 and (first := _EXTENDED.fullmatch(encoded)):
            charset, encoded = first[1], first[2]
        data += (plain or "").encode("latin-1") if encoded is None else unquote_to_bytes(encoded.encode("latin-1"))
        number += 1


def _decode(sent: str, *, percent_encoded: bool) -> str:
    decoded = _encoded_words(sent)
    if decoded is None:
        decoded = _whole_percent_decoded(sent, certain=percent_encoded)
    return _ESCAPE.sub(lambda escape: _ESCAPES[escape[0]], sent) if decoded is None else decoded


def _encoded_words(sent: str) -> str | None:
    """Return a name that has encoded words (RFC 2047), else None."""
    if not sent.isascii() or not _ENCODED_WORD.search(sent):
        return None
    try:
        words = decode_header(sent)
    except (HeaderParseError, ValueError):
        return None
    texts = [word if isinstance(word, str) else _decoded(word, charset or "") for word, charset in words]
    return None if None in texts else "".join(text or "" for text in texts)


def _whole_percent_decoded(sent: str, *, certain: bool) -> str | None:
    """Return a name that is percent-encoded as a whole, else None.

    If it has characters outside of ASCII it surely is. Otherwise it must be encoded like those of the client library
    that encodes all but letters, digits and `-._~`. Even then, `100%25.png` can be a name as it is, and counts as
    encoded only if that is `certain`.
    """
    if "%" not in sent or not _PERCENT_ENCODED.fullmatch(sent):
        return None
    data = unquote_to_bytes(sent)
    everything_encoded = quote(data, safe="") == sent
    if certain and everything_encoded:
        return _text(data.decode("latin-1"))
    decoded = _decoded(data, "")
    if decoded is None or not decoded.isascii():
        return decoded
    return decoded if everything_encoded and "%" in sent.replace("%25", "") else None


def _decoded(data: bytes, charset: str) -> str | None:
    codec = _CODECS.get(charset.lower())
    try:
        return None if codec is None else data.decode(codec)
    except UnicodeDecodeError:
        return None
