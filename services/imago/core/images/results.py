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


@dataclass(frozen=True)
class ExifResult:
    """The result of the exif stage."""

    camera: Camera = field(default_factory=Camera)
    gps: Gps = field(default_factory=Gps)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that the API shows."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ExifResult":
        """Return the result from its JSON."""
        return cls(Camera(**data["camera"]), Gps(**data["gps"]))

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
    """The result of the ocr stage: the chosen reading, and all readings."""

    chosen: OcrReading
    readings: tuple[OcrReading, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON to store; the API shows only `chosen`."""
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

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that the API shows."""
        return {**asdict(self), "tags": list(self.tags)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "VisionResult":
        """Return the result from its JSON."""
        return cls(**{**data, "tags": tuple(data["tags"])})


@dataclass(frozen=True)
class ThumbnailResult:
    """The result of the thumbnail stage: the type of the stored file, its size in pixels and in bytes.

    `truncated` says whether the original ends before its pixels do.
    """

    content_type: str
    width: int
    height: int
    size_bytes: int
    truncated: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the JSON to store."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ThumbnailResult":
        """Return the result from its JSON."""
        return cls(**data)
