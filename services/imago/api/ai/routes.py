"""Summaries of pages and drafts of tasks, by the text provider."""

from collections.abc import Awaitable
from typing import TypeVar

from aiohttp import web

from imago.api.answer_schemas import SummaryAnswer, TaskDraftAnswer
from imago.api.answers import json_answer
from imago.api.auth.permissions import client_of, needs
from imago.api.openapi.decorators import documented, reads_json
from imago.api.request_schemas import DraftTaskBody, SummarizeBody
from imago.api.services import AI, SETTINGS
from imago.core.ai_usage.model import BUDGET_CODE, CallContext, CallKind, next_month
from imago.core.ai_usage.text_tasks import TextProvider
from imago.core.clients.model import Client
from imago.core.clients.scopes import Scope
from imago.core.errors import (
    AiBudgetUsedUp,
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
from imago.core.jobs.failures import PermanentFailure, Throttled, TransientFailure
from imago.core.times import iso_utc, utc_now

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
        AiBudgetUsedUp,
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
    client, body = client_of(request), request["json"]
    page = await request.app[AI].pages.read(body["url"])
    language = body.get("language", client.pipeline.description_language)
    texts = _texts(request, CallKind.SUMMARIZE)
    summary = await _by_provider(texts.summarize(page, language=language), client)
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
    problems=(Unprocessable, AiBudgetUsedUp, AiFailed, AiUnavailable),
)
@reads_json(DraftTaskBody)
@needs(Scope.AI_USE)
async def draft_task(request: web.Request) -> web.Response:
    """Makes a structured task out of a few sentences. `model_used` is `offline/draft` where no model wrote it."""
    client, body = client_of(request), request["json"]
    texts = _texts(request, CallKind.DRAFT_TASK)
    draft = await _by_provider(texts.draft_task(body["description"], context=body["context"]), client)
    return json_answer(draft.to_json())


def _texts(request: web.Request, kind: CallKind) -> TextProvider:
    client = client_of(request)
    policy = client.pipeline.ai_budget_policy or request.app[SETTINGS].ai_budget_policy
    return request.app[AI].texts(CallContext(client.id, kind, client.limits.ai_calls_per_month, policy))


async def _by_provider(work: Awaitable[T], client: Client) -> T:
    """Await a provider's work; raise its failures as problems.

    AiBudgetUsedUp whether the client's policy is to hold or to reject, since a request can't be held for a month;
    AiUnavailable where waiting may help, else AiFailed.
    """
    try:
        return await work
    except (Throttled, PermanentFailure) as failure:
        if failure.code == BUDGET_CODE:
            raise _used_up(client) from failure
        if isinstance(failure, PermanentFailure):
            raise AiFailed(failure.text, extra={"reason": failure.code}) from failure
        delay = failure.delay.total_seconds()
        raise AiUnavailable(failure.text, extra={"reason": failure.code}, retry_after=delay) from failure
    except TransientFailure as failure:
        raise AiUnavailable(failure.text, extra={"reason": failure.code}, retry_after=_RETRY_SECONDS) from failure


def _used_up(client: Client) -> AiBudgetUsedUp:
    now = utc_now()
    begins = next_month(now)
    return AiBudgetUsedUp(
        "This client's AI calls of the month are used up.",
        extra={"limit": client.limits.ai_calls_per_month, "resets_at": iso_utc(begins)},
        retry_after=(begins - now).total_seconds(),
    )
