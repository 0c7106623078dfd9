"""What administrators do about work that failed."""

from datetime import datetime
from typing import Any
from uuid import UUID

from aiohttp import web

from imago.api.answer_schemas import DeadLettersAnswer, ReplayAnswer
from imago.api.answers import json_answer
from imago.api.auth.permissions import ADMIN, access
from imago.api.clients.answer_schemas import AuditAnswer
from imago.api.clients.request_schemas import AuditQuery
from imago.api.clients.shapes import audit_record
from imago.api.images.shapes import dead_letter
from imago.api.openapi.decorators import documented, reads_json, reads_query
from imago.api.paging import decode_id, encode_cursor
from imago.api.request_context import actor_of
from imago.api.request_schemas import DeadLetterQuery, ReplayBody, entity_ref
from imago.api.services import DATABASE, OUTBOX_PUBLISHER, SETTINGS
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
from imago.core.jobs.stages import Stage
from imago.telemetry import metrics
from imago.telemetry.tracing import trace_headers

routes = web.RouteTableDef()

# One request replays this many at most, so that it ends; the answer says how many are left.
MAX_REPLAYS = 1000

_BATCH = 100


@routes.get("/admin/dead-letters", allow_head=False)
@documented(
    tag="admin",
    summary="List dead letters",
    answers={200: (DeadLettersAnswer, "A page of dead letters, newest first.")},
    problems=(Unprocessable,),
)
@reads_query(DeadLetterQuery)
@access(ADMIN)
async def dead_letters(request: web.Request) -> web.Response:
    """Lists the runs of stages that ended without a result, with their errors."""
    query = request["querystring"]
    letters, before = await list_letters(
        request.app[DATABASE], _filter(query), limit=query["limit"], before=decode_id(query.get("cursor"))
    )
    return json_answer(
        {
            "items": [dead_letter(letter) for letter in letters],
            "next_cursor": None if before is None else encode_cursor(before),
        }
    )


@routes.post("/admin/dead-letters/replay")
@documented(
    tag="admin",
    summary="Replay dead letters",
    answers={202: (ReplayAnswer, "The stages have new runs.")},
    problems=(Unprocessable,),
)
@reads_json(ReplayBody)
@access(ADMIN)
async def replay_dead_letters(request: web.Request) -> web.Response:
    """Gives dead stages a new run: those of the letters in `ids`, or of all letters that the filters leave.

    A letter is replayed once; one that was replayed before, or whose stage has gone on since, is skipped. A request
    replays 1,000 letters at most and says how many of the filter's are left.
    """
    db, body = request.app[DATABASE], request["json"]
    counts = dict.fromkeys(ReplayOutcome, 0)
    if "ids" in body:
        for letter in dict.fromkeys(body["ids"]):
            counts[await _replay(request, letter)] += 1
        remaining = 0
    else:
        wanted = _filter(body)
        # Letters of the very runs that this request begins are not its own: it would run in a circle.
        after, left, up_to = 0, MAX_REPLAYS, await newest_letter(db)
        while left:
            batch = await list_unreplayed(db, wanted, limit=min(_BATCH, left), after=after, up_to=up_to)
            if not batch:
                break
            for letter in batch:
                counts[await _replay(request, letter)] += 1
            after, left = batch[-1], left - len(batch)
        remaining = await count_unreplayed(db, wanted, after=after, up_to=up_to)
    answer = {str(outcome): count for outcome, count in counts.items()}
    await record_replay(db, actor_of(request), {**answer, "filter": _audited(body)})
    return json_answer({**answer, "remaining": remaining}, status=202)


@routes.get("/admin/audit", allow_head=False)
@documented(
    tag="admin",
    summary="List administrative acts",
    answers={200: (AuditAnswer, "A page of the audit log, newest first.")},
    problems=(Unprocessable,),
)
@reads_query(AuditQuery)
@access(ADMIN)
async def audit_log(request: web.Request) -> web.Response:
    """Lists what was done to clients, keys and dead letters, by whom and when; it outlives the clients."""
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
    cursor = None if before is None else encode_cursor(before)
    return json_answer({"items": [audit_record(record) for record in records], "next_cursor": cursor})


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
            text = "Not an id of a client."
            raise Unprocessable(text, extra={"errors": {"client": [text]}})
    return LetterFilter(
        client=client,
        stage=Stage(values["stage"]) if "stage" in values else None,
        error_code=values.get("error_code"),
        created_from=values.get("created_from"),
        created_to=values.get("created_to"),
        replayed=values.get("replayed"),
    )
