"""Responses about dead letters and the audit log."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from typing_extensions import TypedDict

from imago.api.http.paging import next_cursor
from imago.core.clients.audit import AuditAction, AuditRecord
from imago.core.jobs.dead_letters import DeadLetter, ReplayOutcome
from imago.core.jobs.stages import Stage


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
