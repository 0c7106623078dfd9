"""Tasks that run in a separate process, because their input is untrusted."""

from typing import Any, Protocol


class IsolatedTasks(Protocol):
    """Runs tasks with limits on memory, CPU and wall time; arguments and results must be JSON values."""

    async def run(self, task: str, arguments: dict[str, Any], *, timeout: float) -> Any:
        """Run a task by its name and return its result; raise a StageFailure."""
        ...
