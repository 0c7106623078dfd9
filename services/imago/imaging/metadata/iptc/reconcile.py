"""One answer out of the sources that contain the same fields.

XMP is the standard's present form and has neither the limits of IIM (32 letters of a city) nor the ASCII of EXIF, so it
comes first, then IIM, then EXIF: the order of the IPTC Photo Metadata Mapping Guidelines
(https://iptc.org/std/photometadata/documentation/mappingguidelines/), which replace those of the Metadata Working
Group. From the latter (Guidelines for Handling Image Metadata 2.0, 2010, section 5) is the exception: where Photoshop's
digest shows that IIM was changed after XMP was written, IIM comes first, unless its text is XMP's cut to IIM's length.
"""

from collections.abc import Iterator
from dataclasses import fields as fields_of
from dataclasses import replace
from typing import Any, TypeVar

from imago.core.images.results import Iptc, IptcPlace
from imago.imaging.metadata.iptc.fields import place_or_none
from imago.imaging.metadata.iptc.iim import IimFields

T = TypeVar("T", Iptc, IptcPlace)


def reconcile(xmp: Iptc, iim: IimFields, exif: Iptc) -> Iptc | None:
    """Return the fields, each of the first source that has it; None if none has any."""
    first, second = (_uncut(iim.iptc, xmp), xmp) if iim.newer_than_xmp else (xmp, iim.iptc)
    combined = _completed(_completed(first, second), exif)
    # The names of this place are separate properties; those of the other places belong together.
    place = _completed(first.place or IptcPlace(), second.place or IptcPlace())
    combined = replace(combined, place=place_or_none(place))
    return None if combined == Iptc() else combined


def _completed(first: T, second: T) -> T:
    """Return the fields of `first`, and those of `second` that it lacks."""
    missing = {name: theirs for name, ours, theirs in _pairs(first, second) if ours is None or ours == ()}
    return replace(first, **missing)


def _uncut(iim: Iptc, xmp: Iptc) -> Iptc:
    """Return the fields of IIM, with the texts of XMP that begin with them."""
    longer: dict[str, Any] = {
        name: theirs
        for name, ours, theirs in _pairs(iim, xmp)
        if isinstance(ours, str) and isinstance(theirs, str) and theirs.startswith(ours)
    }
    return replace(iim, **longer)


def _pairs(first: T, second: T) -> Iterator[tuple[str, Any, Any]]:
    return ((field.name, getattr(first, field.name), getattr(second, field.name)) for field in fields_of(first))
