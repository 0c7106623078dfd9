"""The progress of `imago upload`."""

import io

from rich.console import Console

from imago.cli.upload_progress import UploadProgress, stages_state


def test_the_state_of_an_image_has_the_reason_for_which_a_stage_is_not_done() -> None:
    stages = {
        "exif": {"status": "done", "error_code": None},
        "ocr": {"status": "skipped", "error_code": None},
        "vision": {"status": "retrying", "error_code": "provider-throttled"},
        "thumbnail": {"status": "dead", "error_code": "truncated-image"},
    }
    assert stages_state({"status": "processing", "stages": stages}) == (
        "processing (2/4 stages); vision retrying: provider-throttled; thumbnail dead: truncated-image"
    )


def test_the_clock_of_a_file_runs_until_its_stages_have_ended_and_files_are_counted() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with UploadProgress(2, console=console, shown=True) as progress:
        row = progress.file("a.jpg")
        row.begin(10)
        row.advance(10)
        task = progress._bars.tasks[1]
        assert not task.finished
        row.show("processing (1/4 stages)")
        assert not task.finished
        row.end("done", failed=False)
        assert task.finished
        assert progress.summary == "1/2 files"
        progress.file("b.jpg").end("failed", failed=True)
        assert progress.summary == "2/2 files, 1 failed"


def test_only_files_in_progress_have_a_row_if_there_are_many() -> None:
    with UploadProgress(500, console=Console(file=io.StringIO()), shown=True) as progress:
        rows = [progress.file(f"{number}.jpg") for number in range(500)]
        rows[0].begin(1)
        rows[1].begin(1)
        rows[1].end("done", failed=False)
        assert [task.description for task in progress._bars.tasks if task.visible] == ["all files", "0.jpg"]
