"""The fields of an XMP packet.

The names are those of the IPTC Photo Metadata Standard 2023.1 and of ISO 16684-2 (XMP's schemas for EXIF and TIFF).
"""

import re
from collections import ChainMap
from collections.abc import Iterator
from dataclasses import dataclass, field

from imago.core.images.results import Gps, Iptc, IptcPlace
from imago.imaging.metadata.exif.gps import BELOW, signed_altitude
from imago.imaging.metadata.iptc import fields
from imago.imaging.metadata.iptc.xmp_tree import Properties, XmpValue, read_properties

_DC = "http://purl.org/dc/elements/1.1/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
_CORE = "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"
_EXTENSION = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_EXIF_EX = "http://cipa.jp/exif/1.0/"
_AUX = "http://ns.adobe.com/exif/1.0/aux/"
_MICROSOFT = "http://ns.microsoft.com/photo/1.0"
_NAMESPACES = (_DC, _XMP, _PHOTOSHOP, _CORE, _EXTENSION, _EXIF, _EXIF_EX, _AUX, _MICROSOFT)

_RATIONAL = re.compile(r"([+-]?[0-9]{1,12})/([0-9]{1,12})")
_NUMBER = re.compile(r"[+-]?[0-9]{1,12}(?:\.[0-9]{1,20})?")
_COORDINATE = re.compile(r"([0-9]{1,3}),([0-9]{1,2}(?:\.[0-9]{1,20})?)(?:,([0-9]{1,2}(?:\.[0-9]{1,20})?))?([NSEW])")


@dataclass(frozen=True)
class XmpFields:
    """The fields of a packet: those of IPTC, and those of EXIF that complete a missing or shortened EXIF."""

    iptc: Iptc
    taken_at: str | None = None
    """ISO 8601, with a time."""
    lens: str | None = None
    gps: Gps = field(default_factory=Gps)


def read_xmp(*packets: bytes) -> XmpFields:
    """Return the fields of a packet and its extension; those that are missing or can't be read are None."""
    if not packets:
        return XmpFields(Iptc())
    values: Properties = ChainMap(*(dict(read_properties(packet, namespaces=_NAMESPACES)) for packet in packets))
    return XmpFields(
        iptc=_iptc(values),
        taken_at=fields.local_time(fields.moment(_text(values.get(f"{_EXIF}DateTimeOriginal")))),
        lens=_first_line(values, f"{_EXIF_EX}LensModel", f"{_AUX}Lens", f"{_EXIF}LensModel"),
        gps=_gps(values),
    )


def _iptc(values: Properties) -> Iptc:
    return Iptc(
        title=_first_line(values, f"{_DC}title"),
        headline=_first_line(values, f"{_PHOTOSHOP}Headline"),
        caption=fields.paragraph(_text(values.get(f"{_DC}description"))),
        keywords=fields.keywords(_texts(values, f"{_DC}subject", f"{_MICROSOFT}LastKeywordXMP")),
        creator=fields.names(_texts(values, f"{_DC}creator")),
        copyright=fields.paragraph(_text(values.get(f"{_DC}rights"))),
        credit=_first_line(values, f"{_PHOTOSHOP}Credit"),
        rating=_rating(values),
        digital_source_type=_first_line(values, f"{_EXTENSION}DigitalSourceType", f"{_CORE}DigitalSourceType"),
        created_at=fields.moment(_text(values.get(f"{_PHOTOSHOP}DateCreated"))),
        place=fields.place_or_none(_place(values)),
        location_created=next(_places(values.get(f"{_EXTENSION}LocationCreated")), None),
        locations_shown=tuple(_places(values.get(f"{_EXTENSION}LocationShown"))),
    )


def _text(value: XmpValue | None) -> str:
    """Return the text of a value, of several languages the default one."""
    if value is None:
        return ""
    default = [item for item in value.items if item.language == "x-default"]
    return next((text for item in (*default, *value.items) if (text := _text(item))), "") or value.text


def _texts(values: Properties, *names: str) -> Iterator[str]:
    """Yield the texts of the first of these properties that is present."""
    for name in names:
        if (value := values.get(name)) is not None:
            yield from (_text(item) for item in value.items or (value,))
            return


def _first_line(values: Properties, *names: str) -> str | None:
    lines = (fields.line(_text(values.get(name))) for name in names)
    return next((line for line in lines if line), None)


def _rating(values: Properties) -> int | None:
    stars = _number(_text(values.get(f"{_XMP}Rating")))
    if stars is not None and -1 <= stars <= 5:
        return round(stars)
    return fields.stars(_number(_text(values.get(f"{_MICROSOFT}Rating"))))


def _place(values: Properties) -> IptcPlace:
    return IptcPlace(
        sublocation=_first_line(values, f"{_CORE}Location"),
        city=_first_line(values, f"{_PHOTOSHOP}City"),
        state=_first_line(values, f"{_PHOTOSHOP}State"),
        country=_first_line(values, f"{_PHOTOSHOP}Country"),
        country_code=_first_line(values, f"{_CORE}CountryCode"),
    )


def _places(value: XmpValue | None) -> Iterator[IptcPlace]:
    for item in _items(value) if value else ():
        place = IptcPlace(
            sublocation=_first_line(item.fields, f"{_EXTENSION}Sublocation", f"{_EXTENSION}LocationName"),
            city=_first_line(item.fields, f"{_EXTENSION}City"),
            state=_first_line(item.fields, f"{_EXTENSION}ProvinceState"),
            country=_first_line(item.fields, f"{_EXTENSION}CountryName"),
            country_code=_first_line(item.fields, f"{_EXTENSION}CountryCode"),
        )
        if (named := fields.place_or_none(place)) is not None:
            yield named


def _items(value: XmpValue) -> tuple[XmpValue, ...]:
    return (value.items or (value,))[: fields.MAX_PLACES]


def _number(text: str) -> float | None:
    """Return a number, written as a decimal or as XMP's rational."""
    if (ratio := _RATIONAL.fullmatch(text.strip())) is not None:
        return int(ratio[1]) / int(ratio[2]) if int(ratio[2]) else None
    return float(text) if _NUMBER.fullmatch(text.strip()) else None


def _gps(values: Properties) -> Gps:
    """Return the place of the camera: EXIF's, or that of the location created."""
    found = _point(values)
    created = values.get(f"{_EXTENSION}LocationCreated")
    if found.has_gps or created is None:
        return found
    return next((point for item in _items(created) if (point := _point(item.fields)).has_gps), found)


def _point(values: Properties) -> Gps:
    latitude = _degrees(values, f"{_EXIF}GPSLatitude", signs="NS", limit=90)
    longitude = _degrees(values, f"{_EXIF}GPSLongitude", signs="EW", limit=180)
    return Gps.at(latitude, longitude, _altitude(values))


def _degrees(values: Properties, name: str, *, signs: str, limit: int) -> float | None:
    """Return a coordinate, written as degrees, minutes and seconds with a direction, or as a signed decimal."""
    text = _text(values.get(name)).strip()
    match = _COORDINATE.fullmatch(text)
    if match is None:
        number = _number(text)
        return round(number, 7) if number is not None and abs(number) <= limit else None
    degrees = int(match[1]) + float(match[2]) / 60 + float(match[3] or 0) / 3600
    if match[4] not in signs or degrees > limit:
        return None
    return round(-degrees if match[4] == signs[1] else degrees, 7) + 0.0


def _altitude(values: Properties) -> float | None:
    metres = _number(_text(values.get(f"{_EXIF}GPSAltitude")))
    reference = _text(values.get(f"{_EXIF}GPSAltitudeRef")).strip()
    return signed_altitude(metres, below=reference in map(str, BELOW))
