"""The status of an image, and the stages planned for it."""

import pytest

from imago.core.jobs.stages import ImageStatus, Stage, StageStatus, image_status, planned_stages

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
    planned = planned_stages([Stage.OCR, Stage.VISION], disabled=[Stage.OCR])
    assert planned == {Stage.THUMBNAIL: PENDING, Stage.EXIF: SKIPPED, Stage.OCR: SKIPPED, Stage.VISION: PENDING}
