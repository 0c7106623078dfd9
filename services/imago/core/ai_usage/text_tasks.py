"""What a text provider is given, and what it must do: summaries of pages, and drafts of tasks."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Protocol


@dataclass(frozen=True)
class Page:
    """The readable text of a web page: hostile data, never instructions. `language` is ISO 639-1, where it is known."""

    url: str
    title: str | None
    text: str
    language: str | None


@dataclass(frozen=True)
class Summary:
    """A summary, its language and who made it.

    `language` is what the summary is written in: the one that was asked for, or the page's own where the provider can't
    translate; `und` where nobody knows (ISO 639-2).
    """

    summary: str
    language: str
    model_used: str


class Priority(StrEnum):
    """How pressing a task is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    URGENT = "urgent"


@dataclass(frozen=True)
class TaskDraft:
    """A task made out of a few sentences; `estimate` is in words ("half a day"), tags are normalized."""

    title: str
    objective: str
    steps: tuple[str, ...]
    acceptance_criteria: tuple[str, ...]
    estimate: str
    priority: Priority
    tags: tuple[str, ...]
    model_used: str

    def to_json(self) -> dict[str, Any]:
        """Return the shape of the API."""
        lists = {"steps", "acceptance_criteria", "tags"}
        return {name: list(value) if name in lists else value for name, value in asdict(self).items()}


class PageSource(Protocol):
    """Gives the pages of the public web."""

    async def read(self, url: str) -> Page:
        """Fetch a page and find its text; raise a Problem of `domain.problems`."""
        ...


class TextProvider(Protocol):
    """Works on texts; raises a `StageFailure` of `domain.failures` where it can't."""

    @property
    def name(self) -> str:
        """The provider's name as settings and metrics know it."""
        ...

    async def summarize(self, page: Page, *, language: str) -> Summary:
        """Summarize a page in a language (ISO 639-1)."""
        ...

    async def draft_task(self, description: str, *, context: str) -> TaskDraft:
        """Draft a task from a description and what is around it."""
        ...
