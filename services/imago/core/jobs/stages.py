"""The stages of an image, their statuses, and the status of the image derived from them."""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum


class Stage(StrEnum):
    """A kind of work on an image."""

    # The values are also the names of JetStream consumers.
    THUMBNAIL = "thumbnail"
    EXIF = "exif"
    OCR = "ocr"
    VISION = "vision"
    EMBED = "embed"


class StageStatus(StrEnum):
    """The status of one stage of an image."""

    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    DONE = "done"
    SKIPPED = "skipped"
    DEAD = "dead"


class Priority(StrEnum):
    """The priority of a run within its lane."""

    LIVE = "live"
    """An upload, or a change that somebody waits for."""
    BACKGROUND = "background"
    """A reprocess job: is queued at a limited rate, beside live work."""


class ImageStatus(StrEnum):
    """The status of an image, derived from its stages."""

    PENDING = "pending"
    PROCESSING = "processing"
    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"


# The stages that only servers with a model for them have: elsewhere images have no row of them, and no consumer exists.
OPTIONAL_STAGES = frozenset({Stage.EMBED})

# The stages of every server.
STAGES: tuple[Stage, ...] = tuple(stage for stage in Stage if stage not in OPTIONAL_STAGES)

# The stages that a client can choose from, and the default pipeline. The thumbnail stage always runs; `embed` follows
# `vision`, so that a client that doesn't want its images recognized need not know of it.
PIPELINE_STAGES: tuple[Stage, ...] = tuple(stage for stage in STAGES if stage is not Stage.THUMBNAIL)

OPEN_STATUSES = frozenset({StageStatus.PENDING, StageStatus.RUNNING, StageStatus.RETRYING})

TERMINAL_IMAGE_STATUSES = frozenset({ImageStatus.DONE, ImageStatus.PARTIAL, ImageStatus.FAILED})

# The stages by kind of worker process. One process serves thumbnails and EXIF, because neither is worth its own
# Deployment.
WORKER_STAGES: Mapping[str, tuple[Stage, ...]] = {
    "exif": (Stage.THUMBNAIL, Stage.EXIF),
    "ocr": (Stage.OCR,),
    "vision": (Stage.VISION,),
    "embed": (Stage.EMBED,),
}
WORKER_KINDS: Mapping[Stage, str] = {stage: kind for kind, stages in WORKER_STAGES.items() for stage in stages}


def image_status(statuses: Iterable[StageStatus]) -> ImageStatus:
    """Derive an image's status from the statuses of all its stages; skipped stages do not count."""
    counted = [status for status in statuses if status is not StageStatus.SKIPPED]
    if any(status in OPEN_STATUSES for status in counted):
        untouched = all(status is StageStatus.PENDING for status in counted)
        return ImageStatus.PENDING if untouched else ImageStatus.PROCESSING
    dead = sum(status is StageStatus.DEAD for status in counted)
    if not dead:
        return ImageStatus.DONE
    return ImageStatus.FAILED if dead == len(counted) else ImageStatus.PARTIAL


def server_stages(off: Collection[Stage]) -> tuple[Stage, ...]:
    """Return the stages of a server that has disabled `off`: those are skipped, but optional ones don't exist."""
    return tuple(stage for stage in Stage if stage not in OPTIONAL_STAGES or stage not in off)


def server_workers(off: Collection[Stage]) -> tuple[str, ...]:
    """Return the kinds of workers of a server that has disabled the stages `off`."""
    existing = server_stages(off)
    return tuple(kind for kind, stages in WORKER_STAGES.items() if any(stage in existing for stage in stages))


def requested_stages(pipeline: Iterable[Stage]) -> tuple[Stage, ...]:
    """Return the stages that a client's pipeline stands for, in their order."""
    chosen = {Stage.THUMBNAIL, *pipeline}
    if Stage.VISION in chosen:
        chosen.add(Stage.EMBED)
    return tuple(stage for stage in Stage if stage in chosen)


def planned_stages(
    pipeline: Iterable[Stage], *, disabled: Collection[Stage] = OPTIONAL_STAGES
) -> dict[Stage, StageStatus]:
    """Return the initial statuses of a new image's stages: pending or skipped. The thumbnail is always pending."""
    chosen = set(requested_stages(pipeline)) - set(disabled)
    return {stage: StageStatus.PENDING if stage in chosen else StageStatus.SKIPPED for stage in server_stages(disabled)}
