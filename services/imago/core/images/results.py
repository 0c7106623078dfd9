"""The results of the stages. Their JSON is stored in the database and shown by the API, which documents these types."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Protocol


class StageResult(Protocol):
    """The result of any stage."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON to store."""
        ...


@dataclass(frozen=True)
class Camera:
    """The camera and its exposure, written as photographers do."""

    make: str | None = None
    model: str | None = None
    lens: str | None = None
    iso: int | None = None
    aperture: str | None = None
    """For example `f/2.8`."""
    shutter_speed: str | None = None
    """For example `1/250`, in seconds."""
    focal_length: str | None = None
    """For example `50mm`."""
    taken_at: str | None = None
    """The camera's local time (ISO 8601), with an offset only if EXIF has one."""


@dataclass(frozen=True)
class Gps:
    """A place."""

    latitude: float | None = None
    """Degrees, positive to the north."""
    longitude: float | None = None
    """Degrees, positive to the east."""
    altitude: float | None = None
    """Metres above sea level."""
    has_gps: bool = False
    maps_url: str | None = None

    @classmethod
    def at(cls, latitude: float | None, longitude: float | None, altitude: float | None) -> "Gps":
        """Return a place, which is only an altitude without coordinates.

        Cameras without a GPS fix write zeros, and 0° N 0° E is in the open sea.
        """
        if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
            return cls(altitude=altitude)
        point = f"{latitude:.6f}/{longitude:.6f}"
        url = f"https://www.openstreetmap.org/?mlat={latitude:.6f}&mlon={longitude:.6f}#map=15/{point}"
        return cls(latitude, longitude, altitude, has_gps=True, maps_url=url)


@dataclass(frozen=True)
class Place:
    """The inhabited place nearest to the coordinates, from GeoNames (https://www.geonames.org, CC BY 4.0).

    Show this source wherever you show the place.
    """

    name: str
    """The local or the English name, as GeoNames has it."""
    admin: str | None
    """Its region, state or province."""
    country: str
    """In the client's description language if that is French, else in English."""
    country_code: str
    """ISO 3166-1, two letters."""


@dataclass(frozen=True)
class IptcPlace:
    """A place by its names."""

    sublocation: str | None = None
    city: str | None = None
    state: str | None = None
    """Or province."""
    country: str | None = None
    country_code: str | None = None
    """As written: ISO 3166-1, two or three letters."""


@dataclass(frozen=True)
class Iptc:
    """What people and their software say about the picture, from XMP, IPTC-IIM and EXIF."""

    title: str | None = None
    headline: str | None = None
    caption: str | None = None
    keywords: tuple[str, ...] = ()
    creator: str | None = None
    """Several names are separated by semicolons."""
    copyright: str | None = None
    credit: str | None = None
    rating: int | None = None
    """0 to 5; -1 means rejected."""
    digital_source_type: str | None = None
    """A URI of https://cv.iptc.org/newscodes/digitalsourcetype/, for example of pictures that a model generated."""
    created_at: str | None = None
    """ISO 8601, as precise as it was written: a year, a month, a day or a time, with an offset only if it has one."""
    place: IptcPlace | None = None
    """The place shown, in the older form of the standard."""
    location_created: IptcPlace | None = None
    """The place of the camera."""
    locations_shown: tuple[IptcPlace, ...] = ()

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Iptc":
        """Return the fields from their JSON."""
        places = {name: IptcPlace(**data[name]) if data[name] else None for name in ("place", "location_created")}
        shown = tuple(IptcPlace(**place) for place in data["locations_shown"])
        return cls(**{**data, **places, "keywords": tuple(data["keywords"]), "locations_shown": shown})

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts that search finds the image by."""
        places = [place for place in (self.place, self.location_created, *self.locations_shown) if place]
        named = [name for place in places for name in (place.sublocation, place.city, place.state, place.country)]
        parts = (self.title, self.headline, *self.keywords, self.caption, self.creator, self.credit, *named)
        return tuple(dict.fromkeys(part for part in parts if part))


@dataclass(frozen=True)
class ExifResult:
    """The result of the exif stage."""

    camera: Camera = field(default_factory=Camera)
    gps: Gps = field(default_factory=Gps)
    iptc: Iptc | None = None
    """Null if the file says nothing of it; missing in results of releases that did not read it."""
    place: Place | None = None
    """Null without coordinates, far from any place, and while `GEOCODE` is off; missing in results of earlier releases.

    From GeoNames (https://www.geonames.org, CC BY 4.0).
    """

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that the API shows."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ExifResult":
        """Return the result from its JSON."""
        iptc, place = data.get("iptc"), data.get("place")
        return cls(
            Camera(**data["camera"]),
            Gps(**data["gps"]),
            Iptc.from_json(iptc) if iptc else None,
            Place(**place) if place else None,
        )

    @property
    def taken_local(self) -> datetime | None:
        """The camera's local time without an offset, which the filters `taken_from` and `taken_to` compare with."""
        return datetime.fromisoformat(self.camera.taken_at).replace(tzinfo=None) if self.camera.taken_at else None


@dataclass(frozen=True)
class OcrReading:
    """The text that one OCR engine read."""

    has_text: bool
    text: str
    language: str | None
    """ISO 639-1"""
    confidence: float
    """The mean confidence of the words, 0 to 1."""
    engine: str
    pages: int = 1
    """How many pages of a TIFF file were read; 1 for other formats. `frames` of the image counts all."""
    truncated: bool = False
    """Whether the file ends before its pixels do, so that text may be missing."""


@dataclass(frozen=True)
class OcrResult:
    """The result of the ocr stage: the chosen reading, and all readings.

    `words` is the JSON of `ocr.words.encode_words`, which is stored in a column of its own.
    """

    chosen: OcrReading
    readings: tuple[OcrReading, ...] = ()
    words: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON to store; lists of images show only `chosen`."""
        return {"chosen": asdict(self.chosen), "readings": [asdict(reading) for reading in self.readings]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "OcrResult":
        """Return the result from its JSON."""
        return cls(OcrReading(**data["chosen"]), tuple(OcrReading(**reading) for reading in data["readings"]))


@dataclass(frozen=True)
class VisionResult:
    """The result of the vision stage."""

    description: str
    tags: tuple[str, ...]
    """In lower case and Unicode NFC."""
    confidence: float
    """0 to 1"""
    model_used: str
    """The provider and its model."""
    truncated: bool = False
    """Whether the file ends before its pixels do, so that a part of the image was not seen."""
    moderation_score: float | None = None
    """How likely the image is not safe for work, 0 to 1; null if it was not scored."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that the API shows."""
        return {**asdict(self), "tags": list(self.tags)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "VisionResult":
        """Return the result from its JSON."""
        return cls(**{**data, "tags": tuple(data["tags"])})


@dataclass(frozen=True)
class EmbedResult:
    """The result of the embed stage: the name and the fingerprint of the model, and the vector in float16.

    The vector is stored in a table of its own, and shown nowhere.
    """

    model: str
    fingerprint: str
    truncated: bool
    vector: bytes

    def to_json(self) -> dict[str, Any]:
        """Return the JSON to store."""
        return {"model": self.model, "fingerprint": self.fingerprint, "truncated": self.truncated}


@dataclass(frozen=True)
class ThumbnailResult:
    """The result of the thumbnail stage: the type of the stored file, its size in pixels and in bytes.

    `truncated` says whether the original ends before its pixels do. `hash` is a perceptual hash, a signed integer of 64
    bits, or None for a picture that shows too little.
    """

    content_type: str
    width: int
    height: int
    size_bytes: int
    truncated: bool = False
    hash: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON to store."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ThumbnailResult":
        """Return the result from its JSON."""
        return cls(**data)
