"""The fields of an IPTC-IIM record (Information Interchange Model 4.2)."""

import hashlib
import struct
from dataclasses import dataclass, field

from imago.core.images.results import Iptc, IptcPlace
from imago.imaging.metadata.iptc import fields

MAX_RECORD_BYTES = 2**20
MAX_DATASETS = 4096

_MARKER = 0x1C

# Datasets by record and number.
_CHARACTER_SET = (1, 90)
_TITLE, _KEYWORD, _DATE, _TIME, _CREATOR = (2, 5), (2, 25), (2, 55), (2, 60), (2, 80)
_CITY, _SUBLOCATION, _STATE, _COUNTRY_CODE, _COUNTRY = (2, 90), (2, 92), (2, 95), (2, 100), (2, 101)
_HEADLINE, _CREDIT, _COPYRIGHT, _CAPTION = (2, 105), (2, 110), (2, 116), (2, 120)

# ISO 2022's escape sequences that select UTF-8.
_UTF_8 = (b"\x1b%G", b"\x1b%/G", b"\x1b%/H", b"\x1b%/I")

_Datasets = dict[tuple[int, int], list[bytes]]


@dataclass(frozen=True)
class IimFields:
    """The fields of a record."""

    iptc: Iptc = field(default_factory=Iptc)
    newer_than_xmp: bool = False
    """Whether a program that doesn't know XMP has changed the record, so that XMP's fields are the older ones."""


def read_iim(record: bytes, *, digest: bytes | None = None) -> IimFields:
    """Return the fields of a record; `digest` is the one that Photoshop stores beside it, if there is one."""
    record = record[:MAX_RECORD_BYTES]
    return IimFields(_iptc(_datasets(record)), _changed(record, digest or b""))


def _changed(record: bytes, digest: bytes) -> bool:
    """Return whether a record differs from the one that was written together with XMP (MWG 2.0, section 3.3)."""
    if len(digest) != 16 or not any(digest):
        return False
    # In TIFF, zeros complete a record to whole 32-bit numbers.
    written = (record, record.rstrip(b"\0"))
    return digest not in [hashlib.md5(each, usedforsecurity=False).digest() for each in written]


def _datasets(record: bytes) -> _Datasets:
    datasets: _Datasets = {}
    at = 0
    for _ in range(MAX_DATASETS):
        if at + 5 > len(record) or record[at] != _MARKER:
            break
        number, length = (record[at + 1], record[at + 2]), struct.unpack_from(">H", record, at + 3)[0]
        at += 5
        if length & 0x8000:
            # An extended dataset: these bytes contain the length.
            size = min(length & 0x7FFF, 8)
            length, at = int.from_bytes(record[at : at + size], "big"), at + size
        datasets.setdefault(number, []).append(record[at : at + length])
        at += length
    return datasets


def _iptc(datasets: _Datasets) -> Iptc:
    utf_8 = any(mark.startswith(_UTF_8) for mark in datasets.get(_CHARACTER_SET, ()))
    texts = {
        number: [_text(value, utf_8=utf_8) for value in values] for number, values in datasets.items() if number[0] == 2
    }

    def first(number: tuple[int, int]) -> str:
        return next(iter(texts.get(number, ())), "")

    place = IptcPlace(
        *(fields.line(first(number)) for number in (_SUBLOCATION, _CITY, _STATE, _COUNTRY, _COUNTRY_CODE))
    )
    return Iptc(
        title=fields.line(first(_TITLE)),
        headline=fields.line(first(_HEADLINE)),
        caption=fields.paragraph(first(_CAPTION)),
        keywords=fields.keywords(texts.get(_KEYWORD, ())),
        creator=fields.names(texts.get(_CREATOR, ())),
        copyright=fields.paragraph(first(_COPYRIGHT)),
        credit=fields.line(first(_CREDIT)),
        created_at=_created_at(first(_DATE).strip(), first(_TIME).strip()),
        place=fields.place_or_none(place),
    )


def _text(value: bytes, *, utf_8: bool) -> str:
    """Decode a text: as UTF-8 if it is declared or can be, otherwise as Windows' Latin-1, the usual one of IIM."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        # A declared text is valid up to the place where it was cut.
        return value.decode("utf-8", "ignore") if utf_8 else value.decode("cp1252", "replace")


def _created_at(day: str, time: str) -> str | None:
    return fields.moment(f"{day}T{time}") if time and len(day) == 8 else fields.moment(day)
