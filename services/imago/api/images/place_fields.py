"""Query parameters of places: a circle, a box and a country."""

import re
from typing import Any

from marshmallow import ValidationError, fields

from imago.core.images.lists.countries import find_country
from imago.core.images.lists.places import FARTHEST_KM, Circle, GeoBox

_LATITUDE = r"-?(90(\.0{1,15})?|[0-8]?[0-9](\.[0-9]{1,15})?)"
_LONGITUDE = r"-?(180(\.0{1,15})?|(1[0-7][0-9]|[0-9]?[0-9])(\.[0-9]{1,15})?)"
NEAR_PATTERN = rf"^{_LATITUDE},{_LONGITUDE},[0-9]{{1,5}}(\.[0-9]{{1,15}})?$"
BBOX_PATTERN = rf"^{_LONGITUDE},{_LATITUDE},{_LONGITUDE},{_LATITUDE}$"
_MAX_LENGTH = 200

_NEAR = (
    "Must be latitude,longitude,kilometres, such as 48.8584,2.2945,5; latitudes are between -90 and 90, longitudes"
    " between -180 and 180."
)
_BBOX = (
    "Must be west,south,east,north, such as 2.2,48.8,2.5,48.9; latitudes are between -90 and 90, longitudes between"
    " -180 and 180."
)


class CircleField(fields.String):
    """`latitude,longitude,kilometres`."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        latitude, longitude, km = _numbers(text, NEAR_PATTERN, usage=_NEAR)
        if not 0 < km <= FARTHEST_KM:
            raise ValidationError(f"The distance must be greater than 0 and at most {FARTHEST_KM:.0f} kilometres.")
        return Circle(latitude, longitude, km)


class BoxField(fields.String):
    """`west,south,east,north`, as in GeoJSON; a box across the antimeridian has a west greater than its east."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        west, south, east, north = _numbers(text, BBOX_PATTERN, usage=_BBOX)
        if south > north:
            raise ValidationError("The south is greater than the north; the order is west,south,east,north.")
        return GeoBox(west, south, east, north)


class CountryField(fields.String):
    """A country by its code or its name, deserialized to its code of two letters."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        code = find_country(super()._deserialize(value, attr, data, **kwargs)[:_MAX_LENGTH])
        if code is None:
            raise ValidationError("Unknown country; give a code such as FR, or an English or French name.")
        return code


def _numbers(text: str, pattern: str, *, usage: str) -> list[float]:
    # `$` also matches before a final newline.
    if "\n" in text or not re.match(pattern, text):
        raise ValidationError(usage)
    return [float(part) for part in text.split(",")]
