"""Decode the bytes of a page, with the charset that the page declares if it fits."""

import codecs
import re

# The charsets that a page may declare, by Python's names. Other codecs of Python are not charsets of pages, and some
# take quadratic time.
_CHARSETS = frozenset(
    {
        *("utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "koi8-r", "koi8-u", "cp866", "mac-roman"),
        *("gb18030", "gbk", "gb2312", "big5", "shift_jis", "cp932", "euc_jp", "iso2022_jp", "euc_kr", "cp949"),
        *(f"iso8859-{number}" for number in range(2, 17) if number != 12),
        *(f"cp125{number}" for number in range(9)),
    }
)

# The charsets that browsers use instead (WHATWG Encoding, labels of windows-1252 and GBK).
_ALIASES = {"ascii": "cp1252", "iso8859-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932"}

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# A declaration must be within the first 1,024 bytes (HTML, section 4.2.5.4).
_DECLARED = re.compile(rb"""(?:charset|encoding)\s{0,8}=\s{0,8}["']?([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
_DECLARED_WITHIN = 1024


def decode(body: bytes, *, charset: str | None) -> str:
    """Return the text of a page; `charset` is the one of its Content-Type header.

    It uses the first that fits all bytes: byte order mark, header, declaration, UTF-8. If none fits, it uses UTF-8 with
    replacements if that mostly fits, else Windows-1252, which fits any bytes.
    """
    for mark, name in _BYTE_ORDER_MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(name, errors="replace")
    declared = _DECLARED.search(body[:_DECLARED_WITHIN])
    for label in (charset, declared[1].decode("ascii") if declared else None, "utf-8"):
        known = _known(label)
        if known is None:
            continue
        try:
            return body.decode(known)
        except UnicodeDecodeError:
            continue
    text = body.decode("utf-8", errors="replace")
    return text if text.count("\ufffd") * 200 < len(text) else body.decode("cp1252", errors="replace")


def _known(label: str | None) -> str | None:
    try:
        name = codecs.lookup(label or "").name
    except (LookupError, ValueError):
        return None
    name = _ALIASES.get(name, name)
    return name if name in _CHARSETS else None
