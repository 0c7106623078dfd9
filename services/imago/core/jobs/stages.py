"""The stages of an image's life, their states, and what the states of all stages say about the image."""

from collections.abc import Iterable, Mapping
from enum import StrEnum


class Stage(StrEnum):
    """A step of work on an image; the value is also the name of its JetStream consumer."""

    THUMBNAIL = "thumbnail"
    EXIF = "exif"
    OCR = "ocr"
    VISION = "vision"


class StageStatus(StrEnum):
    """Where one stage of one image stands."""

    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    DONE = "done"
    SKIPPED = "skipped"
    DEAD = "dead"


class ImageStatus(StrEnum):
    """Where an image stands, derived from its stages by `image_status`."""

    PENDING = "pending"
    PROCESSING = "processing"
    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"


STAGES: tuple[Stage, ...] = tuple(Stage)

OPEN_STATUSES = frozenset({StageStatus.PENDING, StageStatus.RUNNING, StageStatus.RETRYING})

TERMINAL_IMAGE_STATUSES = frozenset({ImageStatus.DONE, ImageStatus.PARTIAL, ImageStatus.FAILED})

# A worker process serves these stages; the thumbnail is made beside EXIF because both read the same
# bytes and neither is worth a Deployment of its own.
WORKER_STAGES: Mapping[str, tuple[Stage, ...]] = {
    "exif": (Stage.THUMBNAIL, Stage.EXIF),
    "ocr": (Stage.OCR,),
    "vision": (Stage.VISION,),
}


def image_status(statuses: Iterable[StageStatus]) -> ImageStatus:
    """Derive an image's status from the statuses of all its stages; skipped ones don't count."""
    counted = [status for status in statuses if status is not StageStatus.SKIPPED]
    if any(status in OPEN_STATUSES for status in counted):
        untouched = all(status is StageStatus.PENDING for status in counted)
        return ImageStatus.PENDING if untouched else ImageStatus.PROCESSING
    dead = sum(status is StageStatus.DEAD for status in counted)
    if not dead:
        return ImageStatus.DONE
    return ImageStatus.FAILED if dead == len(counted) else ImageStatus.PARTIAL


def planned_stages(wanted: Iterable[Stage], *, disabled: Iterable[Stage] = ()) -> dict[Stage, StageStatus]:
    """Say which stages a new image starts pending and which are skipped; the thumbnail always runs."""
    chosen = (set(wanted) | {Stage.THUMBNAIL}) - set(disabled)
    return {stage: StageStatus.PENDING if stage in chosen else StageStatus.SKIPPED for stage in STAGES}
