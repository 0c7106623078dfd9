"""The results of the stages, in the JSON shapes of the database and the API."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Camera:
    """The camera and exposure in photographers' notation.

    `taken_at` is the camera's local time in ISO 8601, with an offset only if EXIF has one.
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
    """A position in degrees (north and east positive) and metres above sea level."""

    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None
    has_gps: bool = False
    maps_url: str | None = None


@dataclass(frozen=True)
class ExifResult:
    """The result of the stage `exif`."""

    camera: Camera = field(default_factory=Camera)
    gps: Gps = field(default_factory=Gps)

    def to_json(self) -> dict[str, Any]:
        """Return the shape of the API."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ExifResult":
        """Return the result that `to_json` serialized."""
        return cls(Camera(**data["camera"]), Gps(**data["gps"]))

    @property
    def taken_local(self) -> datetime | None:
        """The camera's local time without an offset, which the filters `taken_from` and `taken_to` compare."""
        return datetime.fromisoformat(self.camera.taken_at).replace(tzinfo=None) if self.camera.taken_at else None


@dataclass(frozen=True)
class OcrReading:
    """The text that one OCR engine recognized, its mean confidence (0..1) and its language (ISO 639-1)."""

    has_text: bool
    text: str
    language: str | None
    confidence: float
    engine: str


@dataclass(frozen=True)
class OcrResult:
    """The result of the stage `ocr`: the chosen reading and all readings."""

    chosen: OcrReading
    readings: tuple[OcrReading, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the stored shape; the API shows only `chosen`."""
        return {"chosen": asdict(self.chosen), "readings": [asdict(reading) for reading in self.readings]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "OcrResult":
        """Return the result that `to_json` serialized."""
        return cls(OcrReading(**data["chosen"]), tuple(OcrReading(**reading) for reading in data["readings"]))


@dataclass(frozen=True)
class VisionResult:
    """The result of the stage `vision`: description, tags (NFC, lower case), confidence (0..1), and the model."""

    description: str
    tags: tuple[str, ...]
    confidence: float
    model_used: str

    def to_json(self) -> dict[str, Any]:
        """Return the shape of the API."""
        return {**asdict(self), "tags": list(self.tags)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "VisionResult":
        """Return the result that `to_json` serialized."""
        return cls(**{**data, "tags": tuple(data["tags"])})


@dataclass(frozen=True)
class ThumbnailResult:
    """The result of the stage `thumbnail`: the stored thumbnail's size in pixels and bytes."""

    content_type: str
    width: int
    height: int
    size_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the stored shape."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ThumbnailResult":
        """Return the result that `to_json` serialized."""
        return cls(**data)


StageResult = ThumbnailResult | ExifResult | OcrResult | VisionResult
