"""Text providers: their protocol, inputs and results (summaries of pages, drafts of tasks)."""

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True)
class WebPage:
    """The readable text of a web page: untrusted data, never instructions. `language` is ISO 639-1 if known."""

    url: str
    title: str | None
    text: str
    language: str | None


@dataclass(frozen=True)
class Summary:
    """A summary, its language and its model.

    `language` is the language of the summary: the requested one, or the page's if the provider cannot translate; `und`
    if it is unknown (ISO 639-2).
    """

    summary: str
    language: str
    model_used: str


class Priority(StrEnum):
    """The priority of a task."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    URGENT = "urgent"


@dataclass(frozen=True)
class TaskDraft:
    """A task drafted from a few sentences; `estimate` is in words ("half a day"), tags are normalized."""

    title: str
    objective: str
    steps: tuple[str, ...]
    acceptance_criteria: tuple[str, ...]
    estimate: str
    priority: Priority
    tags: tuple[str, ...]
    model_used: str


class PageSource(Protocol):
    """Reads pages of the public web."""

    async def read(self, url: str, *, client: Hashable = None) -> WebPage:
        """Fetch a page for a client and extract its text; raise a Problem (`imago.core.errors`)."""
        ...


class TextProvider(Protocol):
    """Summarizes pages and drafts tasks; raises a `StageFailure` (`imago.core.jobs.failures`)."""

    @property
    def name(self) -> str:
        """The provider's name in settings and metrics."""
        ...

    async def summarize(self, page: WebPage, *, language: str) -> Summary:
        """Summarize a page in a language (ISO 639-1)."""
        ...

    async def draft_task(self, description: str, *, context: str) -> TaskDraft:
        """Draft a task from a description and its context."""
        ...
