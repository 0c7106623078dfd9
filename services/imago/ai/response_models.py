"""What providers answer, held against a schema before anything believes it.

An answer is somebody else's text about somebody else's material: whatever it holds, what comes out of here has the
right types, lengths and characters, or it is an InvalidAnswer. What the schema doesn't know is dropped.
"""

import re
from typing import Annotated, Any, ClassVar, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from imago.core.ai_usage.text_tasks import Priority
from imago.core.images.ocr_result import MAX_TEXT
from imago.core.images.tags import normalize_tags
from imago.core.texts import clean_text

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
_LANGUAGE = re.compile(r"^[a-z]{2,3}$")
_MAX_ERRORS = 6


class InvalidAnswer(Exception):
    """The answer doesn't fit; the text says why, without anything of the answer in it."""


Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Answer(BaseModel):
    """What all answers share."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    SCHEMA: ClassVar[dict[str, Any]]
    NAME: ClassVar[str]


A = TypeVar("A", bound=Answer)


def _schema(**properties: dict[str, Any]) -> dict[str, Any]:
    """Return a schema of the kind that all providers take: every member required, no others, no limits."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_STRING = {"type": "string"}
_STRINGS = {"type": "array", "items": {"type": "string"}}
_NUMBER = {"type": "number"}


class VisionAnswer(Answer):
    """A description of an image."""

    NAME = "image_description"
    SCHEMA = _schema(description=_STRING, tags=_STRINGS, confidence=_NUMBER)

    description: str
    tags: list[str]
    confidence: Share

    @field_validator("description")
    @classmethod
    def _clean(cls, value: str) -> str:
        return _filled(clean_text(value, limit=MAX_DESCRIPTION))

    @field_validator("tags")
    @classmethod
    def _normalize(cls, value: list[str]) -> list[str]:
        return list(normalize_tags(value))[:MAX_VISION_TAGS]


class PageAnswer(Answer):
    """The text of a page."""

    NAME = "transcription"
    SCHEMA = _schema(text=_STRING, language=_STRING, confidence=_NUMBER)

    text: str
    language: str
    confidence: Share

    @field_validator("text")
    @classmethod
    def _clean(cls, value: str) -> str:
        return clean_text(value, limit=MAX_TEXT)

    @field_validator("language")
    @classmethod
    def _code(cls, value: str) -> str:
        return _language_code(value)


class SummaryAnswer(Answer):
    """A summary of a page."""

    NAME = "page_summary"
    SCHEMA = _schema(summary=_STRING, language=_STRING)

    summary: str
    language: str

    @field_validator("summary")
    @classmethod
    def _clean(cls, value: str) -> str:
        return _filled(clean_text(value, limit=MAX_SUMMARY))

    @field_validator("language")
    @classmethod
    def _code(cls, value: str) -> str:
        return _language_code(value)


class DraftAnswer(Answer):
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
        return _filled(clean_text(value, limit=MAX_TITLE, lines=False))

    @field_validator("objective")
    @classmethod
    def _objective(cls, value: str) -> str:
        return _filled(clean_text(value, limit=MAX_OBJECTIVE))

    @field_validator("estimate")
    @classmethod
    def _estimate(cls, value: str) -> str:
        return _filled(clean_text(value, limit=MAX_ESTIMATE, lines=False))

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
    """Return what a model's text says; raise InvalidAnswer.

    Fences around the JSON and words beside it are forgiven, since models add them against all instructions.
    """
    if len(text) > MAX_ANSWER:
        raise InvalidAnswer("it is too long")
    try:
        data = orjson.loads(_bare(text))
    except orjson.JSONDecodeError:
        raise InvalidAnswer("it is no complete JSON") from None
    if not isinstance(data, dict):
        raise InvalidAnswer("it is no JSON object")
    try:
        return answer.model_validate(data)
    except ValidationError as error:
        raise InvalidAnswer(_reasons(error)) from None


def _bare(text: str) -> str:
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
    told = []
    for item in error.errors(include_url=False, include_input=False, include_context=False)[:_MAX_ERRORS]:
        # Items by their number alone: the names of members are the schema's, as what isn't is ignored.
        place = ".".join(str(part) for part in item["loc"])
        told.append(f"{place}: {item['msg']}")
    return "; ".join(told)


def _filled(text: str) -> str:
    if not text:
        raise ValueError("is empty")
    return text


def _language_code(value: str) -> str:
    """Return `fr` for `fr`, `FR` or `fr-CA`; '' for what is no code."""
    code = value.strip().lower().replace("_", "-").split("-")[0]
    return code if _LANGUAGE.match(code) else ""
