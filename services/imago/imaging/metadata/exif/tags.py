"""The tags that are read, and the directories that they are in.

The numbers are those of EXIF 3.0 (CIPA DC-008) and of DNG 1.7.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeVar

from imago.imaging.containers.ifd import Tags

T = TypeVar("T")


class Tag(IntEnum):
    """The tags of the main and of the EXIF directory."""

    MAKE = 0x010F
    MODEL = 0x0110
    MODIFIED = 0x0132
    EXPOSURE_TIME = 0x829A
    F_NUMBER = 0x829D
    SENSITIVITY = 0x8827
    SENSITIVITY_TYPE = 0x8830
    STANDARD_OUTPUT_SENSITIVITY = 0x8831
    RECOMMENDED_EXPOSURE_INDEX = 0x8832
    ISO_SPEED = 0x8833
    TAKEN = 0x9003
    DIGITIZED = 0x9004
    OFFSET_MODIFIED = 0x9010
    OFFSET_TAKEN = 0x9011
    OFFSET_DIGITIZED = 0x9012
    SHUTTER_APEX = 0x9201
    APERTURE_APEX = 0x9202
    FOCAL_LENGTH = 0x920A
    MAKER_NOTE = 0x927C
    SUBSECONDS_MODIFIED = 0x9290
    SUBSECONDS_TAKEN = 0x9291
    SUBSECONDS_DIGITIZED = 0x9292
    LENS_SPECIFICATION = 0xA432
    LENS_MODEL = 0xA434
    DNG_LENS = 0xC630
    PHOTOSHOP_LENS = 0xFDEA


# Tags up to here are TIFF's own and belong into the main directory; the others belong into the EXIF directory.
_LAST_OF_TIFF = 0x8298


@dataclass(frozen=True)
class TagTables:
    """The tags of the three directories."""

    main: Tags = field(default_factory=dict)
    exif: Tags = field(default_factory=dict)
    gps: Tags = field(default_factory=dict)

    def all(self, tag: Tag) -> list[Any]:
        """Return the values of a tag in the main and in the EXIF directory, its own directory's value first.

        Programs copy tags into the wrong directory, and cameras write them there.
        """
        tables = (self.main, self.exif) if tag <= _LAST_OF_TIFF else (self.exif, self.main)
        return [table[tag] for table in tables if tag in table]

    def first(self, read: Callable[[Any], T | None], *tags: Tag) -> T | None:
        """Return the first value of the tags that can be read."""
        found = (read(value) for tag in tags for value in self.all(tag))
        return next((result for result in found if result is not None), None)
