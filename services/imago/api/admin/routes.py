"""Queues, dead letters and the audit log, for administrators."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from aiohttp import web

from imago.api.admin.requests import AuditQuery, DeadLetterQuery, ReplayBody
from imago.api.admin.responses import (
    AuditLogResponse,
    DeadLettersResponse,
    QueuesResponse,
    ReplayResponse,
    audit_log_response,
    dead_letters_response,
    queues_response,
    replay_response,
)
from imago.api.auth.permissions import ADMIN, allow
from imago.api.http.json import json_response
from imago.api.http.paging import decode_id
from imago.api.http.request_context import actor_of
from imago.api.http.requests import entity_ref
from imago.api.http.services import DATABASE, OUTBOX_PUBLISHER, SETTINGS
from imago.api.openapi.decorators import documented, reads_json, reads_query
from imago.core.clients.audit import AuditAction, AuditFilter, list_records
from imago.core.errors import Unprocessable
from imago.core.jobs.dead_letters import (
    LetterFilter,
    ReplayOutcome,
    count_unreplayed,
    list_letters,
    list_unreplayed,
    newest_letter,
    record_replay,
    replay,
)
from imago.core.jobs.queues import queue_states
from imago.core.jobs.stages import Stage
from imago.core.times import utc_now
from imago.telemetry import metrics
from imago.telemetry.tracing import trace_headers

routes = web.RouteTableDef()

# The most letters that one request replays, so that it ends in reasonable time.
MAX_REPLAYS = 1000

_BATCH = 100

# The clients that are listed with a queue.
QUEUED_CLIENTS = 10


@routes.get("/admin/queues", allow_head=False)
@documented(
    tag="admin",
    summary="List queues",
    responses={200: (QueuesResponse, "The queues with open runs, by lane and stage.")},
)
@allow(ADMIN)
async def queues(request: web.Request) -> web.Response:
    """List how much work waits in each lane and stage, for how long, and the ten clients with the most of it."""
    now = utc_now()
    states = await queue_states(request.app[DATABASE], now=now, most_clients=QUEUED_CLIENTS)
    return json_response(queues_response(states, now=now))


@routes.get("/admin/dead-letters", allow_head=False)
@documented(
    tag="admin",
    summary="List dead letters",
    responses={200: (DeadLettersResponse, "A page of dead letters, newest first.")},
    errors=(Unprocessable,),
)
@reads_query(DeadLetterQuery)
@allow(ADMIN)
async def dead_letters(request: web.Request) -> web.Response:
    """List the runs of stages that failed for good, with their errors."""
    query = request["querystring"]
    letters, before = await list_letters(
        request.app[DATABASE], _filter(query), limit=query["limit"], before=decode_id(query.get("cursor"))
    )
    return json_response(dead_letters_response(letters, before))


@routes.post("/admin/dead-letters/replay")
@documented(
    tag="admin",
    summary="Replay dead letters",
    responses={202: (ReplayResponse, "The stages have new runs.")},
    errors=(Unprocessable,),
)
@reads_json(ReplayBody)
@allow(ADMIN)
async def replay_dead_letters(request: web.Request) -> web.Response:
    """Request a new run of the stages of dead letters: those in `ids`, or all that match the filters.

    A letter can be replayed once; it is skipped if it was replayed before, or if its stage has had another run since.
    A request replays at most 1,000 letters and reports how many of the matching ones remain.
    """
    body = request["json"]
    if "ids" in body:
        counts, remaining = await _replay_all(request, dict.fromkeys(body["ids"])), 0
    else:
        counts, remaining = await _replay_matching(request, _filter(body))
    details = {str(outcome): counts[outcome] for outcome in ReplayOutcome}
    await record_replay(request.app[DATABASE], actor_of(request), {**details, "filter": _audited(body)})
    return json_response(replay_response(counts, remaining), status=202)


@routes.get("/admin/audit", allow_head=False)
@documented(
    tag="admin",
    summary="List audit records",
    responses={200: (AuditLogResponse, "A page of the audit log, newest first.")},
    errors=(Unprocessable,),
)
@reads_query(AuditQuery)
@allow(ADMIN)
async def audit_log(request: web.Request) -> web.Response:
    """List the administrative actions on clients, keys and dead letters. Records of erased clients are kept."""
    query = request["querystring"]
    records, before = await list_records(
        request.app[DATABASE],
        AuditFilter(
            client=query.get("client"),
            action=AuditAction(query["action"]) if "action" in query else None,
            created_from=query.get("created_from"),
            created_to=query.get("created_to"),
        ),
        limit=query["limit"],
        before=decode_id(query.get("cursor")),
    )
    return json_response(audit_log_response(records, before))


async def _replay_matching(request: web.Request, letters: LetterFilter) -> tuple[Counter[ReplayOutcome], int]:
    """Replay the oldest letters that match; return the number of each outcome, and of letters that remain."""
    db, counts = request.app[DATABASE], Counter[ReplayOutcome]()
    # Runs that this request creates may fail in turn. Without the upper bound it could replay their letters forever.
    after, left, up_to = 0, MAX_REPLAYS, await newest_letter(db)
    while left:
        batch = await list_unreplayed(db, letters, limit=min(_BATCH, left), after=after, up_to=up_to)
        if not batch:
            break
        counts += await _replay_all(request, batch)
        after, left = batch[-1], left - len(batch)
    return counts, await count_unreplayed(db, letters, after=after, up_to=up_to)


async def _replay_all(request: web.Request, letters: Iterable[int]) -> Counter[ReplayOutcome]:
    return Counter([await _replay(request, letter) for letter in letters])


async def _replay(request: web.Request, letter: int) -> ReplayOutcome:
    outcome, rows = await replay(
        request.app[DATABASE], letter, stages_off=request.app[SETTINGS].stages_off, headers=trace_headers()
    )
    request.app[OUTBOX_PUBLISHER].publish_soon(rows)
    if outcome is ReplayOutcome.REPLAYED:
        metrics.DEAD_LETTERS_REPLAYED.inc()
    return outcome


def _audited(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in body.items()}


def _filter(values: dict[str, Any]) -> LetterFilter:
    client: int | UUID | None = None
    if "client" in values:
        client = entity_ref(values["client"])
        if client is None:
            text = "Not the id or uuid of a client."
            raise Unprocessable(text, extra={"errors": {"client": [text]}})
    return LetterFilter(
        client=client,
        stage=Stage(values["stage"]) if "stage" in values else None,
        error_code=values.get("error_code"),
        created_from=values.get("created_from"),
        created_to=values.get("created_to"),
        replayed=values.get("replayed"),
    )
