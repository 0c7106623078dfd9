"""The status of an image, and the stages planned for it."""

import pytest

from imago.core.jobs.stages import (
    STAGES,
    WORKER_STAGES,
    ImageStatus,
    Stage,
    StageStatus,
    image_status,
    planned_stages,
    server_workers,
)

DONE, PENDING, RUNNING = StageStatus.DONE, StageStatus.PENDING, StageStatus.RUNNING
DEAD, SKIPPED = StageStatus.DEAD, StageStatus.SKIPPED


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([PENDING, PENDING, PENDING, PENDING], ImageStatus.PENDING),
        ([PENDING, PENDING, SKIPPED, SKIPPED], ImageStatus.PENDING),
        ([RUNNING, PENDING, PENDING, PENDING], ImageStatus.PROCESSING),
        ([DONE, DONE, DONE, StageStatus.RETRYING], ImageStatus.PROCESSING),
        ([DONE, DONE, DONE, DONE], ImageStatus.DONE),
        ([DONE, SKIPPED, SKIPPED, SKIPPED], ImageStatus.DONE),
        ([DONE, DEAD, DONE, SKIPPED], ImageStatus.PARTIAL),
        ([DEAD, DEAD, DEAD, DEAD], ImageStatus.FAILED),
        ([DEAD, SKIPPED, SKIPPED, SKIPPED], ImageStatus.FAILED),
        ([DEAD, DEAD, PENDING, DEAD], ImageStatus.PROCESSING),
    ],
)
def test_an_images_status_is_derived_from_its_stages(statuses: list[StageStatus], expected: ImageStatus) -> None:
    assert image_status(statuses) is expected


def test_the_thumbnail_is_always_planned_and_disabled_stages_are_skipped() -> None:
    planned = planned_stages([Stage.OCR, Stage.VISION], disabled=[Stage.OCR, Stage.EMBED])
    assert planned == {Stage.THUMBNAIL: PENDING, Stage.EXIF: SKIPPED, Stage.OCR: SKIPPED, Stage.VISION: PENDING}


def test_embed_follows_vision_where_the_server_has_a_model_and_does_not_exist_elsewhere() -> None:
    assert set(planned_stages([Stage.VISION])) == set(STAGES)
    assert planned_stages([Stage.VISION], disabled=[])[Stage.EMBED] is PENDING
    assert planned_stages([Stage.VISION], disabled=[Stage.VISION])[Stage.EMBED] is PENDING
    assert planned_stages([Stage.OCR], disabled=[])[Stage.EMBED] is SKIPPED


def test_a_server_without_a_model_has_no_worker_for_it() -> None:
    assert server_workers([]) == tuple(WORKER_STAGES)
    assert server_workers([Stage.OCR, Stage.EMBED]) == ("exif", "ocr", "vision")
