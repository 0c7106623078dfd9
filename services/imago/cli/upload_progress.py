"""The progress of `imago upload` on a terminal: a row for all files, and one for each file in progress."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

# More rows than this would not fit on a terminal, so only files in progress have one.
_MAX_ROWS = 10


class UploadProgress:
    """Counts files; without a terminal nothing is shown."""

    def __init__(self, files: int, *, console: Console, shown: bool) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
        )
        self._bars = Progress(*columns, console=console, disable=not shown)
        self._keep_rows = files <= _MAX_ROWS
        self._files, self._ended, self._failed = files, 0, 0
        self._total = self._bars.add_task("all files", total=files, state=self.summary)

    def __enter__(self) -> Self:
        """Begin to show the rows."""
        self._bars.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Stop updating the rows."""
        self._bars.stop()

    @property
    def summary(self) -> str:
        """How many files have ended, of how many, and how many failed."""
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._ended}/{self._files} files{failed}"

    def file(self, name: str) -> "FileRow":
        """Return the row of a file, which is shown from `begin` on."""
        task = self._bars.add_task(name, total=None, state="waiting", start=False, visible=self._keep_rows)
        return FileRow(self, self._bars, task)

    def ended(self, task: TaskID, *, failed: bool) -> None:
        """Count a file."""
        self._ended += 1
        self._failed += failed
        self._bars.update(task, visible=self._keep_rows)
        self._bars.update(self._total, advance=1, state=self.summary)


class FileRow:
    """One file: its bytes, its state and its clock, which stops only when the file has ended."""

    def __init__(self, progress: UploadProgress, bars: Progress, task: TaskID) -> None:
        self._progress = progress
        self._bars = bars
        self._task = task
        self._total = 1

    def begin(self, size: int) -> None:
        """Start the clock of a file of `size` bytes."""
        # One more than the bytes, because a row that is complete stops its clock.
        self._total = size + 1
        self._bars.start_task(self._task)
        self._bars.update(self._task, total=self._total, visible=True, state="uploading")

    def advance(self, size: int) -> None:
        """Count bytes that were sent."""
        self._bars.advance(self._task, size)

    def restart(self, state: str) -> None:
        """Count the bytes from the beginning."""
        self._bars.update(self._task, completed=0, state=state)

    def show(self, state: str) -> None:
        """Show what is being waited for."""
        self._bars.update(self._task, state=state)

    def end(self, state: str, *, failed: bool) -> None:
        """Stop the clock, and count the file."""
        self._bars.update(self._task, total=self._total, completed=self._total, state=state)
        self._progress.ended(self._task, failed=failed)


def stages_state(document: dict[str, Any]) -> str:
    """Return the status of an image in one line, with the reason for which a stage is not done."""
    stages = document["stages"]
    ended = sum(stage["status"] in ("done", "skipped") for stage in stages.values())
    reasons = [
        f"{name} {stage['status']}: {stage['error_code']}"
        for name, stage in stages.items()
        if stage["error_code"] and stage["status"] != "done"
    ]
    return "; ".join([f"{document['status']} ({ended}/{len(stages)} stages)", *reasons])
