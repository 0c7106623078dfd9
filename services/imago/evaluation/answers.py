"""What Imago answered about the images and the searches of a folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ImageAnswer:
    """What the API says of one image.

    `tags` has the tags by the language of the description. `place` and `country_code` are those of its coordinates.
    """

    text: str = ""
    confidence: float = 0.0
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    place: str | None = None
    country_code: str | None = None


@dataclass(frozen=True)
class Answers:
    """All answers: images by file, the files that each search found in their order, and look-alikes by file.

    `cpu_ms` is the CPU time of each step in milliseconds per image. What was not asked for is empty.
    """

    images: Mapping[str, ImageAnswer]
    searches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    similar: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cpu_ms: Mapping[str, float] = field(default_factory=dict)
