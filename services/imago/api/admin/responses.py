"""Responses about queues, dead letters and the audit log."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from typing_extensions import TypedDict

from imago.api.http.paging import next_cursor
from imago.core.clients.audit import AuditAction, AuditRecord
from imago.core.jobs.dead_letters import DeadLetter, ReplayOutcome
from imago.core.jobs.queues import QueueState
from imago.core.jobs.stages import Stage


class QueuedClientResponse(TypedDict):
    """A client's work in a queue."""

    client: UUID
    name: str
    weight: int
    concurrency: int | None
    """The most runs of a stage that the client may have in progress; null: no limit."""
    open: int
    running: int
    oldest_wait_seconds: float | None


class QueueResponse(TypedDict):
    """The work of a stage in a lane."""

    lane: str
    stage: Stage
    open: int
    """Runs that have not ended, including those in progress and those that wait for a retry."""
    running: int
    oldest_wait_seconds: float | None
    """How long the oldest run waits that could be claimed; null if none does."""
    clients: list[QueuedClientResponse]
    """The clients with the most open runs, the most first."""


class QueuesResponse(TypedDict):
    """The queues with open runs."""

    items: list[QueueResponse]


class DeadLetterResponse(TypedDict):
    """A run of a stage that failed for good."""

    id: int
    client: UUID
    image_id: int
    image_uuid: UUID
    stage: Stage
    run: int
    lane: str
    attempts: int
    error_code: str
    error_text: str
    created_at: datetime
    replayed_at: datetime | None


class DeadLettersResponse(TypedDict):
    """A page of dead letters."""

    items: list[DeadLetterResponse]
    next_cursor: str | None


class ReplayResponse(TypedDict):
    """How many dead letters a request replayed."""

    replayed: int
    """Letters whose stage has a new run."""
    skipped: int
    """Letters that were replayed before, or whose stage has had another run since."""
    missing: int
    """Letters that don't exist, or whose image was deleted."""
    remaining: int
    """Letters that match the filter and were not reached by this request."""


class AuditRecordResponse(TypedDict):
    """An administrative action."""

    id: int
    at: datetime
    actor: str
    """`admin`, `operator`, or `imago` itself."""
    action: AuditAction
    client: UUID | None
    request_id: str | None
    details: dict[str, Any]


class AuditLogResponse(TypedDict):
    """A page of the audit log."""

    items: list[AuditRecordResponse]
    next_cursor: str | None


def queues_response(queues: Sequence[QueueState], *, now: datetime) -> QueuesResponse:
    """Return the queues with open runs."""
    return {"items": [_queue(queue, now) for queue in queues]}


def _queue(queue: QueueState, now: datetime) -> QueueResponse:
    return {
        "lane": queue.lane,
        "stage": queue.stage,
        "open": queue.open,
        "running": queue.running,
        "oldest_wait_seconds": _seconds_since(queue.oldest, now),
        "clients": [
            {
                "client": each.client,
                "name": each.name,
                "weight": each.weight,
                "concurrency": each.concurrency,
                "open": each.open,
                "running": each.running,
                "oldest_wait_seconds": _seconds_since(each.oldest, now),
            }
            for each in queue.clients
        ],
    }


def _seconds_since(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else round(max((now - moment).total_seconds(), 0.0), 3)


def dead_letters_response(letters: Sequence[DeadLetter], before: int | None) -> DeadLettersResponse:
    """Return a page of dead letters; `before` is the id that the next page continues below, if there is one."""
    return {"items": [_dead_letter(letter) for letter in letters], "next_cursor": next_cursor(before)}


def replay_response(counts: Mapping[ReplayOutcome, int], remaining: int) -> ReplayResponse:
    """Return the number of letters of each outcome, and of those that a filter leaves."""
    return {
        "replayed": counts[ReplayOutcome.REPLAYED],
        "skipped": counts[ReplayOutcome.SKIPPED],
        "missing": counts[ReplayOutcome.MISSING],
        "remaining": remaining,
    }


def audit_log_response(records: Sequence[AuditRecord], before: int | None) -> AuditLogResponse:
    """Return a page of the audit log; `before` is the id that the next page continues below, if there is one."""
    return {"items": [_audit_record(record) for record in records], "next_cursor": next_cursor(before)}


def _dead_letter(letter: DeadLetter) -> DeadLetterResponse:
    return {
        "id": letter.id,
        "client": letter.client,
        "image_id": letter.image_id,
        "image_uuid": letter.image_uuid,
        "stage": letter.stage,
        "run": letter.run,
        "lane": letter.lane,
        "attempts": letter.attempts,
        "error_code": letter.error_code,
        "error_text": letter.error_text,
        "created_at": letter.created_at,
        "replayed_at": letter.replayed_at,
    }


def _audit_record(record: AuditRecord) -> AuditRecordResponse:
    return {
        "id": record.id,
        "at": record.at,
        "actor": record.actor,
        "action": record.action,
        "client": record.client,
        "request_id": record.request_id,
        "details": record.details,
    }
