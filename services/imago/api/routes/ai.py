"""Summaries of pages and drafts of tasks, by the text provider."""

from collections.abc import Awaitable
from typing import TypeVar

from aiohttp import web

from imago.api.access import client_of, needs
from imago.api.answer_schemas import SummaryAnswer, TaskDraftAnswer
from imago.api.answers import json_answer
from imago.api.documentation import documented, reads_json
from imago.api.request_schemas import DraftTaskBody, SummarizeBody
from imago.api.services import services_of
from imago.domain.failures import StageFailure, Throttled, TransientFailure
from imago.domain.problems import (
    AiFailed,
    AiUnavailable,
    FetchFailed,
    FetchTimeout,
    FetchTooLarge,
    NotAPage,
    NoText,
    Unprocessable,
    UrlRefused,
)
from imago.domain.scopes import Scope

routes = web.RouteTableDef()

T = TypeVar("T")

# For failures of a provider that names no delay.
_RETRY_SECONDS = 10


@routes.post("/ai/summarize")
@documented(
    tag="ai",
    summary="Summarize a web page",
    answers={200: (SummaryAnswer, "The summary.")},
    problems=(
        Unprocessable,
        UrlRefused,
        FetchTooLarge,
        NotAPage,
        NoText,
        FetchFailed,
        AiFailed,
        AiUnavailable,
        FetchTimeout,
    ),
)
@reads_json(SummarizeBody)
@needs(Scope.AI_USE)
async def summarize(request: web.Request) -> web.Response:
    """Fetches a page of the public web, finds its text and summarizes that. `url` is the one finally read."""
    services, client, body = services_of(request), client_of(request), request["json"]
    page = await services.pages.read(body["url"])
    language = body.get("language", client.pipeline.description_language)
    summary = await _by_provider(services.texts.summarize(page, language=language))
    return json_answer(
        {
            "title": page.title,
            "url": page.url,
            "language": summary.language,
            "summary": summary.summary,
            "model_used": summary.model_used,
        }
    )


@routes.post("/ai/draft-task")
@documented(
    tag="ai",
    summary="Draft a task",
    answers={200: (TaskDraftAnswer, "The draft, in the description's language.")},
    problems=(Unprocessable, AiFailed, AiUnavailable),
)
@reads_json(DraftTaskBody)
@needs(Scope.AI_USE)
async def draft_task(request: web.Request) -> web.Response:
    """Makes a structured task out of a few sentences. `model_used` is `offline/draft` where no model wrote it."""
    client_of(request)
    body = request["json"]
    texts = services_of(request).texts
    draft = await _by_provider(texts.draft_task(body["description"], context=body["context"]))
    return json_answer(draft.to_json())


async def _by_provider(work: Awaitable[T]) -> T:
    """Await a provider's work; raise its failures as problems: AiFailed, or AiUnavailable where waiting may help."""
    try:
        return await work
    except Throttled as failure:
        delay = failure.delay.total_seconds()
        raise AiUnavailable(failure.text, extra={"reason": failure.code}, retry_after=delay) from failure
    except TransientFailure as failure:
        raise AiUnavailable(failure.text, extra={"reason": failure.code}, retry_after=_RETRY_SECONDS) from failure
    except StageFailure as failure:
        raise AiFailed(failure.text, extra={"reason": failure.code}) from failure
