"""Selections: stored and read without a loss, and compared for the same images."""

from datetime import UTC, datetime
from uuid import uuid4

from imago.core.jobs.stages import ImageStatus, Stage
from imago.core.reprocessing.model import Counts, Selection

ONE, OTHER = uuid4(), uuid4()


def test_a_selection_survives_its_json() -> None:
    full = Selection(
        stages=(Stage.OCR, Stage.VISION),
        clients=(ONE, OTHER),
        created_from=datetime(2026, 1, 2, tzinfo=UTC),
        created_to=datetime(2026, 3, 4, 5, 6, 7, 8, tzinfo=UTC),
        taken_from=datetime(2025, 1, 1),
        taken_to=datetime(2025, 12, 31, 23, 59),
        status=ImageStatus.FAILED,
        tag="beach",
        engine_not="tesserocr",
        model_not="offline/6",
    )
    for selection in (full, Selection((Stage.EXIF,))):
        assert Selection.from_json(selection.to_json()) == selection


def test_repeated_stages_and_clients_count_once() -> None:
    selection = Selection.from_json({"stages": ["ocr", "ocr"], "clients": [str(ONE), str(ONE)]})
    assert (selection.stages, selection.clients) == ((Stage.OCR,), (ONE,))


def test_selections_overlap_if_they_share_a_stage_and_a_client() -> None:
    ocr = Selection((Stage.OCR,))
    assert ocr.overlaps(Selection((Stage.VISION, Stage.OCR), clients=(ONE,)))
    assert Selection((Stage.OCR,), clients=(ONE, OTHER)).overlaps(Selection((Stage.OCR,), clients=(OTHER,)))
    assert not Selection((Stage.OCR,), clients=(ONE,)).overlaps(Selection((Stage.OCR,), clients=(OTHER,)))
    assert not ocr.overlaps(Selection((Stage.VISION,)))


def test_unfinished_images_are_those_not_queued_and_those_that_run() -> None:
    assert Counts(matched=10, queued=4, done=2, failed=1).unfinished == 7
    assert Counts(matched=10, queued=8, done=5, failed=1, cancelled=2, skipped=2).unfinished == 0
