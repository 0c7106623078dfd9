"""Names of the JetStream streams, subjects and buckets."""

from uuid import UUID

from imago.core.jobs.stages import Stage
from imago.core.lanes.model import SHARED_LANES, client_token, is_dedicated, is_lane

EVENTS_STREAM = "IMAGO_EVENTS"
DEAD_STREAM = "IMAGO_DEAD"
ADVISORIES_STREAM = "IMAGO_ADVISORIES"
WORK_STREAM_PREFIX = "IMAGO_WORK_"
BREAKERS_BUCKET = "imago_breakers"

EVENTS_SUBJECTS = "imago.events.>"
DEAD_SUBJECTS = "imago.dead.>"


def work_stream(lane: str) -> str:
    """Return the name of a lane's work stream."""
    return WORK_STREAM_PREFIX + (lane if is_dedicated(lane) else lane.upper())


def lane_of_stream(stream: str) -> str | None:
    """Return the lane of a work stream, or None for another stream."""
    if not stream.startswith(WORK_STREAM_PREFIX):
        return None
    token = stream.removeprefix(WORK_STREAM_PREFIX)
    lane = token.lower() if token.lower() in SHARED_LANES else token
    return lane if is_lane(lane) else None


def work_subjects(lane: str, stage: Stage | None = None) -> str:
    """Return the subject filter for a lane's work, or for one stage of it."""
    return f"imago.work.{lane}.{stage}.*" if stage else f"imago.work.{lane}.>"


def work_subject(lane: str, stage: Stage, client: UUID) -> str:
    """Return the subject of a client's work for one stage."""
    return f"imago.work.{lane}.{stage}.{client_token(client)}"


def client_work_subjects(lane: str, client: UUID) -> str:
    """Return the subject filter for all work of a client in a lane."""
    return f"imago.work.{lane}.*.{client_token(client)}"


def dead_subject(lane: str, stage: Stage, client: UUID) -> str:
    """Return the subject of a client's dead letters of one stage."""
    return f"imago.dead.{lane}.{stage}.{client_token(client)}"


def client_dead_subjects(client: UUID) -> str:
    """Return the subject filter for all dead letters of a client."""
    return f"imago.dead.*.*.{client_token(client)}"


def event_subject(client: UUID, image: UUID, name: str) -> str:
    """Return the subject of an event of one image."""
    return f"imago.events.{client_token(client)}.{image}.{name}"


def client_event_subjects(client: UUID) -> str:
    """Return the subject filter for all events of a client."""
    return f"imago.events.{client_token(client)}.>"
