"""Responses of the text provider."""

from typing_extensions import TypedDict

from imago.core.ai_usage.text_tasks import Priority, Summary, TaskDraft, WebPage


class SummaryResponse(TypedDict):
    """A summary of a web page."""

    title: str | None
    url: str
    """The URL of the page after redirects."""
    language: str
    """The language of the summary (ISO 639-1): the requested one, or the page's if the provider can't translate; `und`
    if that is unknown."""
    summary: str
    model_used: str
    """`offline/extractive`: sentences selected from the page, unchanged."""


class TaskDraftResponse(TypedDict):
    """A structured task."""

    title: str
    objective: str
    steps: list[str]
    acceptance_criteria: list[str]
    estimate: str
    """In words, for example `half a day`."""
    priority: Priority
    tags: list[str]
    model_used: str
    """`offline/draft`: composed of the description's own sentences, without a model."""


def summary_response(page: WebPage, summary: Summary) -> SummaryResponse:
    """Return the summary of a page."""
    return {
        "title": page.title,
        "url": page.url,
        "language": summary.language,
        "summary": summary.summary,
        "model_used": summary.model_used,
    }


def task_draft_response(draft: TaskDraft) -> TaskDraftResponse:
    """Return a drafted task."""
    return {
        "title": draft.title,
        "objective": draft.objective,
        "steps": list(draft.steps),
        "acceptance_criteria": list(draft.acceptance_criteria),
        "estimate": draft.estimate,
        "priority": draft.priority,
        "tags": list(draft.tags),
        "model_used": draft.model_used,
    }
