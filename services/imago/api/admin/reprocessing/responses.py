"""Responses about reprocess jobs."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from typing_extensions import TypedDict

from imago.api.http.paging import next_cursor
from imago.core.jobs.stages import ImageStatus, Stage
from imago.core.reprocessing.model import Phase, ReprocessJob


class SelectionResponse(TypedDict):
    """The stages to run again, and the filters of images; null means no filter."""

    stages: list[Stage]
    clients: list[UUID]
    """Empty: all active clients."""
    created_from: datetime | None
    created_to: datetime | None
    taken_from: str | None
    """The camera's local time."""
    taken_to: str | None
    status: ImageStatus | None
    tag: str | None
    engine_not: str | None
    model_not: str | None


class ReprocessCountsResponse(TypedDict):
    """Numbers of images."""

    matched: int
    """They matched when the job was created."""
    queued: int
    """Their runs were started; includes the following three."""
    done: int
    failed: int
    """At least one run ended as a dead letter."""
    cancelled: int
    """The image was deleted, or a run was replaced by a newer one, before it ended."""
    skipped: int
    """They were deleted, in progress, or had new results when their turn came; 0 until the last image is queued."""


class ReprocessJobResponse(TypedDict):
    """A reprocess job."""

    id: int
    uuid: UUID
    phase: Phase
    """`suspended` jobs queue no images. `completed`: the runs of all images have ended."""
    selection: SelectionResponse
    images_per_minute: int
    suspended: bool
    counts: ReprocessCountsResponse
    since: datetime
    """Results that ended at or after this time are new: their stages do not run again."""
    created_by: str
    """`admin` or `operator`."""
    created_at: datetime
    completed_at: datetime | None


class ReprocessJobsResponse(TypedDict):
    """A page of reprocess jobs."""

    items: list[ReprocessJobResponse]
    next_cursor: str | None


class DryRunResponse(TypedDict):
    """What a job would match."""

    matched: int


def reprocess_job_response(job: ReprocessJob) -> ReprocessJobResponse:
    """Return a job as administrators see it."""
    return {
        "id": job.id,
        "uuid": job.uuid,
        "phase": job.phase,
        "selection": _selection(job),
        "images_per_minute": job.images_per_minute,
        "suspended": job.suspended,
        "counts": {
            "matched": job.counts.matched,
            "queued": job.counts.queued,
            "done": job.counts.done,
            "failed": job.counts.failed,
            "cancelled": job.counts.cancelled,
            "skipped": job.counts.skipped,
        },
        "since": job.since,
        "created_by": job.created_by,
        "created_at": job.created_at,
        "completed_at": job.completed_at,
    }


def reprocess_jobs_response(jobs: Sequence[ReprocessJob], before: int | None) -> ReprocessJobsResponse:
    """Return a page of jobs; `before` is the id that the next page continues below, if there is one."""
    return {"items": [reprocess_job_response(job) for job in jobs], "next_cursor": next_cursor(before)}


def _selection(job: ReprocessJob) -> SelectionResponse:
    selected = job.selection
    return {
        "stages": list(selected.stages),
        "clients": list(selected.clients),
        "created_from": selected.created_from,
        "created_to": selected.created_to,
        "taken_from": selected.taken_from.isoformat() if selected.taken_from else None,
        "taken_to": selected.taken_to.isoformat() if selected.taken_to else None,
        "status": selected.status,
        "tag": selected.tag,
        "engine_not": selected.engine_not,
        "model_not": selected.model_not,
    }
