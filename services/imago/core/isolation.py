"""The protocol of tasks that run in child processes, because their input is untrusted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class IsolatedTasks(Protocol):
    """Runs tasks with limits on memory, CPU time and duration; arguments and results are JSON values."""

    async def run(self, task: str, arguments: dict[str, Any], *, timeout: float, reads: Mapping[str, Path]) -> Any:
        """Run the task with this name and return its result; `timeout` is in seconds. Raises StageFailure.

        The task gets the files `reads` open, as the arguments of these names.
        """
        ...
