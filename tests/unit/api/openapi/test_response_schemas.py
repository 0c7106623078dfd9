"""JSON Schemas of the types that build responses."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from typing_extensions import TypedDict

from imago.api.http.json import StoredJson
from imago.api.openapi.response_schemas import response_schemas


class Colour(StrEnum):
    """A colour."""

    RED = "red"


@dataclass(frozen=True)
class Built:
    """The source of the stored JSON."""

    names: tuple[str, ...] = ()
    """The names."""


class ThingResponse(TypedDict):
    """A thing."""

    at: datetime | None
    """When it happened."""
    colour: Colour
    built: Annotated[str, StoredJson(Built)] | None


def test_a_type_is_described_by_its_annotations_and_docstrings() -> None:
    references, schemas = response_schemas([ThingResponse])
    assert references == {ThingResponse: {"$ref": "#/components/schemas/Thing"}}
    assert schemas["Thing"] == {
        "type": "object",
        "description": "A thing.",
        "properties": {
            "at": {"type": ["string", "null"], "format": "date-time", "description": "When it happened."},
            "colour": {"$ref": "#/components/schemas/Colour"},
            "built": {"anyOf": [{"$ref": "#/components/schemas/Built"}, {"type": "null"}]},
        },
        "required": ["at", "colour", "built"],
    }


def test_stored_json_is_described_by_the_type_it_was_made_from() -> None:
    _, schemas = response_schemas([ThingResponse])
    assert schemas["Built"] == {
        "type": "object",
        "description": "The source of the stored JSON.",
        "properties": {"names": {"type": "array", "items": {"type": "string"}, "description": "The names."}},
        "required": ["names"],
    }
    assert schemas["Colour"] == {"type": "string", "description": "A colour.", "enum": ["red"]}
