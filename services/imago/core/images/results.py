"""What the stages find out, in the shapes that the API shows (DESIGN, section 4)."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Camera:
    """The camera and its exposure as photographers write them; `taken_at` is the camera's local time, ISO 8601,
    with an offset only where EXIF has one.
    """

    make: str | None = None
    model: str | None = None
    lens: str | None = None
    iso: int | None = None
    aperture: str | None = None
    shutter_speed: str | None = None
    focal_length: str | None = None
    taken_at: str | None = None


@dataclass(frozen=True)
class Gps:
    """A place: degrees north and east positive, metres above sea level (below: negative)."""

    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None
    has_gps: bool = False
    maps_url: str | None = None


@dataclass(frozen=True)
class ExifResult:
    """The result of the exif stage."""

    camera: Camera = field(default_factory=Camera)
    gps: Gps = field(default_factory=Gps)

    def to_json(self) -> dict[str, Any]:
        """Return the shape of the API."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ExifResult":
        """Read back what `to_json` gave."""
        return cls(Camera(**data["camera"]), Gps(**data["gps"]))

    @property
    def taken_local(self) -> datetime | None:
        """The camera's local time without its offset, as the filters `taken_from` and `taken_to` compare it."""
        return datetime.fromisoformat(self.camera.taken_at).replace(tzinfo=None) if self.camera.taken_at else None


@dataclass(frozen=True)
class OcrReading:
    """What one OCR engine read: `confidence` is the words' mean, 0..1; `language` is ISO 639-1 or None."""

    has_text: bool
    text: str
    language: str | None
    confidence: float
    engine: str


@dataclass(frozen=True)
class OcrResult:
    """The result of the ocr stage: the reading that was chosen, and all that were made."""

    chosen: OcrReading
    readings: tuple[OcrReading, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what is stored; the API shows `chosen` alone."""
        return {"chosen": asdict(self.chosen), "readings": [asdict(reading) for reading in self.readings]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "OcrResult":
        """Read back what `to_json` gave."""
        return cls(OcrReading(**data["chosen"]), tuple(OcrReading(**reading) for reading in data["readings"]))


@dataclass(frozen=True)
class VisionResult:
    """The result of the vision stage: description, tags (lower case, NFC), confidence (0..1), and who said so."""

    description: str
    tags: tuple[str, ...]
    confidence: float
    model_used: str

    def to_json(self) -> dict[str, Any]:
        """Return the shape of the API."""
        return {**asdict(self), "tags": list(self.tags)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "VisionResult":
        """Read back what `to_json` gave."""
        return cls(**{**data, "tags": tuple(data["tags"])})


@dataclass(frozen=True)
class ThumbnailResult:
    """The result of the thumbnail stage: the size in pixels and bytes of what lies in storage."""

    content_type: str
    width: int
    height: int
    size_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return what is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ThumbnailResult":
        """Read back what `to_json` gave."""
        return cls(**data)


StageResult = ThumbnailResult | ExifResult | OcrResult | VisionResult
