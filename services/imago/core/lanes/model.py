"""Lanes: the queue priorities of work, and the names of the streams and subjects that carry them."""

from dataclasses import dataclass
from uuid import UUID

from imago.core.jobs.stages import Stage

STANDARD = "standard"
PREMIUM = "premium"
SHARED_LANES: tuple[str, ...] = (PREMIUM, STANDARD)

# What a client asks for that is to have a lane of its own.
DEDICATED = "dedicated"

# In `WORKER_LANES`: every client's own lane.
ANY_DEDICATED = "*"

# Of eight messages a worker takes at least one is from standard, so that premium can't starve it (DESIGN, section 5).
STANDARD_SHARE = 8

EVENTS_STREAM = "IMAGO_EVENTS"
DEAD_STREAM = "IMAGO_DEAD"
ADVISORIES_STREAM = "IMAGO_ADVISORIES"
WORK_STREAM_PREFIX = "IMAGO_WORK_"
BREAKERS_BUCKET = "imago_breakers"

EVENTS_SUBJECTS = "imago.events.>"
DEAD_SUBJECTS = "imago.dead.>"


def client_token(client: UUID) -> str:
    """Return the client's uuid as it stands in subjects and stream names: without dashes."""
    return client.hex


def is_dedicated(lane: str) -> bool:
    """Tell whether the lane belongs to one client alone."""
    return lane not in SHARED_LANES


def lane_label(lane: str) -> str:
    """Return the lane as a metric label; dedicated lanes share one, so that labels stay few."""
    return "dedicated" if is_dedicated(lane) else lane


def valid_lane(lane: str) -> bool:
    """Tell whether the text names a lane: a shared one, or a client's uuid without dashes."""
    if lane in SHARED_LANES:
        return True
    try:
        return UUID(hex=lane).hex == lane
    except ValueError:
        return False


def lane_of(choice: str, *, plan_lane: str, client: UUID) -> str:
    """Return the lane that a choice means: `dedicated` is the client's own, nothing is the plan's.

    Raises ValueError on what is neither, another client's lane included.
    """
    own = client_token(client)
    named = {"": plan_lane, DEDICATED: own, own: own, STANDARD: STANDARD, PREMIUM: PREMIUM}
    if choice not in named:
        raise ValueError(f"not a lane of this client: {choice!r}")
    return named[choice]


def work_stream(lane: str) -> str:
    """Return the name of the work stream of a lane."""
    return WORK_STREAM_PREFIX + (lane if is_dedicated(lane) else lane.upper())


def lane_of_stream(stream: str) -> str | None:
    """Return the lane of a work stream's name, or None for another stream."""
    if not stream.startswith(WORK_STREAM_PREFIX):
        return None
    token = stream.removeprefix(WORK_STREAM_PREFIX)
    lane = token.lower() if token.lower() in SHARED_LANES else token
    return lane if valid_lane(lane) else None


def work_subjects(lane: str, stage: Stage | None = None) -> str:
    """Return the subject filter of a lane's work, or of one stage of it."""
    return f"imago.work.{lane}.{stage}.*" if stage else f"imago.work.{lane}.>"


def work_subject(lane: str, stage: Stage, client: UUID) -> str:
    """Return the subject that one client's work for a stage is published on."""
    return f"imago.work.{lane}.{stage}.{client_token(client)}"


def dead_subject(lane: str, stage: Stage, client: UUID) -> str:
    """Return the subject of one client's dead letters of a stage."""
    return f"imago.dead.{lane}.{stage}.{client_token(client)}"


def dead_subjects_of(client: UUID) -> str:
    """Return the subject filter of all dead letters of a client."""
    return f"imago.dead.*.*.{client_token(client)}"


def work_subjects_of(lane: str, client: UUID) -> str:
    """Return the subject filter of all work of a client in a lane."""
    return f"imago.work.{lane}.*.{client_token(client)}"


def event_subject(client: UUID, image: UUID, name: str) -> str:
    """Return the subject of an event of one image."""
    return f"imago.events.{client_token(client)}.{image}.{name}"


def client_events(client: UUID) -> str:
    """Return the subject filter of all events of a client."""
    return f"imago.events.{client_token(client)}.>"


@dataclass(frozen=True)
class WorkerLanes:
    """What `WORKER_LANES` asks for: named lanes in order of priority, and whether every client's own is served."""

    named: tuple[str, ...]
    any_dedicated: bool

    @classmethod
    def parse(cls, text: str) -> "WorkerLanes":
        """Read a comma-separated list such as `premium,standard,*`; raise ValueError on a name that is no lane."""
        names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        wrong = [name for name in names if name != ANY_DEDICATED and not valid_lane(name)]
        if wrong or not names:
            raise ValueError(f"not a lane: {wrong[0]!r}" if wrong else "no lane named")
        return cls(tuple(name for name in names if name != ANY_DEDICATED), ANY_DEDICATED in names)
