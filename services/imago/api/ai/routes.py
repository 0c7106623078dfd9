"""Summaries of web pages and drafts of tasks, by the text provider."""

from collections.abc import Awaitable
from typing import TypeVar

from aiohttp import web

from imago.api.ai.requests import DraftTaskBody, SummarizeBody
from imago.api.ai.responses import SummaryResponse, TaskDraftResponse, summary_response, task_draft_response
from imago.api.auth.permissions import allow_clients, client_of
from imago.api.http.json import json_response
from imago.api.http.services import AI, SETTINGS
from imago.api.openapi.decorators import documented, reads_json
from imago.api.server.memory import REQUEST_BYTES, memory_now
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
    HostNotFound,
    NotAPage,
    NoText,
    Unprocessable,
    UrlRefused,
)
from imago.core.jobs.failures import PermanentFailure, Throttled, TransientFailure
from imago.core.times import utc_now
from imago.web.pages import PAGE_BYTES

routes = web.RouteTableDef()

T = TypeVar("T")

# After a failure for which the provider names no delay.
_RETRY_SECONDS = 10


@routes.post("/ai/summarize")
@documented(
    tag="ai",
    summary="Summarize a web page",
    responses={200: (SummaryResponse, "The summary.")},
    errors=(
        Unprocessable,
        UrlRefused,
        HostNotFound,
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
@allow_clients(Scope.AI_USE)
async def summarize(request: web.Request) -> web.Response:
    """Fetch a page of the public web, extract its text and summarize it."""
    client, body = client_of(request), request["json"]
    with memory_now(request, PAGE_BYTES + REQUEST_BYTES, of="page"):
        page = await request.app[AI].pages.read(body["url"], client=client.uuid)
    language = body.get("language", client.pipeline.description_language)
    texts = _texts(request, CallKind.SUMMARIZE)
    summary = await _by_provider(texts.summarize(page, language=language), client)
    return json_response(summary_response(page, summary))


@routes.post("/ai/draft-task")
@documented(
    tag="ai",
    summary="Draft a task",
    responses={200: (TaskDraftResponse, "The draft, in the description's language.")},
    errors=(Unprocessable, AiBudgetUsedUp, AiFailed, AiUnavailable),
)
@reads_json(DraftTaskBody)
@allow_clients(Scope.AI_USE)
async def draft_task(request: web.Request) -> web.Response:
    """Turn a few sentences into a structured task."""
    client, body = client_of(request), request["json"]
    texts = _texts(request, CallKind.DRAFT_TASK)
    draft = await _by_provider(texts.draft_task(body["description"], context=body["context"]), client)
    return json_response(task_draft_response(draft))


def _texts(request: web.Request, kind: CallKind) -> TextProvider:
    client = client_of(request)
    policy = client.pipeline.ai_budget_policy or request.app[SETTINGS].ai_budget_policy
    return request.app[AI].texts(CallContext(client.id, kind, client.limits.ai_calls_per_month, policy))


async def _by_provider(work: Awaitable[T], client: Client) -> T:
    """Await a provider's work and translate its failures.

    Raises AiBudgetUsedUp even if the client's policy is to hold work, since a request can't be held for a month;
    AiUnavailable if a retry may succeed; otherwise AiFailed.
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
        "This client's AI calls for this month are used up.",
        extra={"limit": client.limits.ai_calls_per_month, "resets_at": begins},
        retry_after=(begins - now).total_seconds(),
    )
