"""The file `labels.json` of a folder: what is true of its images, and what searches should find."""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FILE = "labels.json"


class BadLabels(ValueError):
    """A file of labels that cannot be used; the text is one line that names the field."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ObjectLabel(_Model):
    """A thing in view; `share` is the share of the image that it covers, 0 to 1."""

    name: str = Field(min_length=1)
    share: float = Field(default=1.0, ge=0, le=1)


class PlaceLabel(_Model):
    """Where an image was taken: the names that are right, and the country (ISO 3166-1, two letters)."""

    names: tuple[str, ...] = Field(min_length=1)
    country_code: str | None = Field(default=None, pattern="^[A-Z]{2}$")


class ImageLabels(_Model):
    """What is true of one image; a field that is missing is not judged.

    `objects` is empty for an image that shows nothing, for example a plain colour. `also` has further tags that are
    right, and that nobody expects. `same_as` names the file of which this image is an edited copy.
    """

    kind: str = "all"
    text: str | None = None
    ignore_case: bool = False
    language: str | None = None
    objects: tuple[ObjectLabel, ...] | None = None
    also: tuple[str, ...] = ()
    place: PlaceLabel | None = None
    same_as: str | None = None

    @property
    def is_judged(self) -> bool:
        """Whether any field says what is true."""
        return any(value is not None for value in (self.text, self.objects, self.place, self.same_as))


class Names(_Model):
    """Other names of an object, in any language: those that are as exact, and those of more general kinds."""

    same: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


class QueryLabel(_Model):
    """A search and the files that it should find: none for a query that is nonsense."""

    q: str = Field(min_length=1)
    language: str | None = None
    kind: Literal["natural", "nonsense", "absent"] = "natural"
    images: tuple[str, ...] = ()


class Labels(_Model):
    """The labels of a folder; the keys of `images` are file names, those of `names` are names of objects."""

    images: Mapping[str, ImageLabels] = Field(min_length=1)
    names: Mapping[str, Names] = Field(default_factory=dict)
    queries: tuple[QueryLabel, ...] = ()

    @property
    def files(self) -> frozenset[str]:
        """All files that labels name."""
        copied = (image.same_as for image in self.images.values() if image.same_as)
        return frozenset((*self.images, *copied, *(file for query in self.queries for file in query.images)))


def parse_labels(text: str | bytes) -> Labels:
    """Read the labels; raise BadLabels."""
    try:
        labels = Labels.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadLabels(f"{FILE}: {field}: {first['msg']}") from None
    if unknown := sorted(labels.files - labels.images.keys()):
        raise BadLabels(f"{FILE}: {unknown[0]!r} is named by a query or a `same_as`, but has no entry in `images`")
    if not labels.queries and not any(image.is_judged for image in labels.images.values()):
        raise BadLabels(
            f"{FILE}: nothing to judge: no query, and no image with `text`, `objects`, `place` or `same_as`"
        )
    return labels
