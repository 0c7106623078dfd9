"""The answers of models, validated against a schema.

An answer is untrusted text about untrusted data. A decoded answer has the right types, lengths and characters, else it
is an InvalidAnswer. Members that are not in the schema are dropped.
"""

import re
from typing import Annotated, Any, ClassVar, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from imago.core.ai_usage.text_tasks import Priority
from imago.core.images.ocr.result import MAX_TEXT
from imago.core.images.tags import normalize_tags
from imago.core.text.cleaning import clean_text
from imago.core.text.language_names import find_language

MAX_ANSWER = 400_000
MAX_DESCRIPTION = 2000
MAX_SUMMARY = 4000
MAX_VISION_TAGS = 20
MAX_TITLE = 100
MAX_OBJECTIVE = 600
MAX_ITEM = 300
MAX_ITEMS = 20
MAX_ESTIMATE = 100
MAX_TASK_TAGS = 6

_FENCE = re.compile(r"^```[a-zA-Z]*\s*\n?(.*?)\n?\s*```$", re.DOTALL)
_MAX_ERRORS = 6


class InvalidAnswer(Exception):
    """The answer is invalid. The text is the reason, and quotes nothing of the answer."""


Confidence = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class ModelAnswer(BaseModel):
    """The base of all answers."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    SCHEMA: ClassVar[dict[str, Any]]
    NAME: ClassVar[str]


A = TypeVar("A", bound=ModelAnswer)


def _schema(**properties: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that all providers support: all members required, no other members, no limits."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_STRING = {"type": "string"}
_STRINGS = {"type": "array", "items": {"type": "string"}}
_NUMBER = {"type": "number"}


class VisionAnswer(ModelAnswer):
    """A description of an image."""

    NAME = "image_description"
    SCHEMA = _schema(description=_STRING, tags=_STRINGS, confidence=_NUMBER)

    description: str
    tags: list[str]
    confidence: Confidence

    @field_validator("description")
    @classmethod
    def _clean(cls, value: str) -> str:
        return _not_empty(clean_text(value, limit=MAX_DESCRIPTION))

    @field_validator("tags")
    @classmethod
    def _normalize(cls, value: list[str]) -> list[str]:
        return list(normalize_tags(value))[:MAX_VISION_TAGS]


class TranscriptionAnswer(ModelAnswer):
    """The text of a page."""

    NAME = "transcription"
    SCHEMA = _schema(text=_STRING, language=_STRING, confidence=_NUMBER)

    text: str
    language: str
    confidence: Confidence

    @field_validator("text")
    @classmethod
    def _clean(cls, value: str) -> str:
        return clean_text(value, limit=MAX_TEXT)

    @field_validator("language")
    @classmethod
    def _code(cls, value: str) -> str:
        return _language_code(value)


class SummaryAnswer(ModelAnswer):
    """A summary of a page."""

    NAME = "page_summary"
    SCHEMA = _schema(summary=_STRING, language=_STRING)

    summary: str
    language: str

    @field_validator("summary")
    @classmethod
    def _clean(cls, value: str) -> str:
        return _not_empty(clean_text(value, limit=MAX_SUMMARY))

    @field_validator("language")
    @classmethod
    def _code(cls, value: str) -> str:
        return _language_code(value)


class DraftAnswer(ModelAnswer):
    """A task."""

    NAME = "task_draft"
    SCHEMA = _schema(
        title=_STRING,
        objective=_STRING,
        steps=_STRINGS,
        acceptance_criteria=_STRINGS,
        estimate=_STRING,
        priority={"type": "string", "enum": [str(priority) for priority in Priority]},
        tags=_STRINGS,
    )

    title: str
    objective: str
    steps: list[str]
    acceptance_criteria: list[str]
    estimate: str
    priority: Annotated[Priority, Field(strict=False)]
    tags: list[str]

    @field_validator("title")
    @classmethod
    def _title(cls, value: str) -> str:
        return _not_empty(clean_text(value, limit=MAX_TITLE, lines=False))

    @field_validator("objective")
    @classmethod
    def _objective(cls, value: str) -> str:
        return _not_empty(clean_text(value, limit=MAX_OBJECTIVE))

    @field_validator("estimate")
    @classmethod
    def _estimate(cls, value: str) -> str:
        return _not_empty(clean_text(value, limit=MAX_ESTIMATE, lines=False))

    @field_validator("steps", "acceptance_criteria")
    @classmethod
    def _items(cls, value: list[str]) -> list[str]:
        items = [item for text in value if (item := clean_text(text, limit=MAX_ITEM, lines=False))]
        if not items:
            raise ValueError("is empty")
        return list(dict.fromkeys(items))[:MAX_ITEMS]

    @field_validator("tags")
    @classmethod
    def _normalize(cls, value: list[str]) -> list[str]:
        return list(normalize_tags(value))[:MAX_TASK_TAGS]


def decode(text: str, answer: type[A]) -> A:
    """Return the answer in a model's text; raise InvalidAnswer.

    Code fences and words around the JSON are ignored, because models add them despite the instructions.
    """
    if len(text) > MAX_ANSWER:
        raise InvalidAnswer("it is too long")
    try:
        data = orjson.loads(_without_surroundings(text))
    except orjson.JSONDecodeError:
        raise InvalidAnswer("it is not complete JSON") from None
    if not isinstance(data, dict):
        raise InvalidAnswer("it is not a JSON object")
    try:
        return answer.model_validate(data)
    except ValidationError as error:
        raise InvalidAnswer(_reasons(error)) from None


def _without_surroundings(text: str) -> str:
    bare = text.strip().removeprefix("\ufeff")
    fenced = _FENCE.match(bare)
    if fenced is not None:
        bare = fenced[1].strip()
    if not bare.startswith(("{", "[")):
        begin, end = bare.find("{"), bare.rfind("}")
        if 0 <= begin < end:
            bare = bare[begin : end + 1]
    return bare


def _reasons(error: ValidationError) -> str:
    reasons = []
    for item in error.errors(include_url=False, include_input=False, include_context=False)[:_MAX_ERRORS]:
        # The location has only members of the schema and indexes of items, because other members are ignored.
        location = ".".join(str(part) for part in item["loc"])
        reasons.append(f"{location}: {item['msg']}")
    return "; ".join(reasons)


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("is empty")
    return text


def _language_code(value: str) -> str:
    """Return the ISO 639-1 code of a language, or an empty string if there is none."""
    language = find_language(value)
    return language.code if language else ""
