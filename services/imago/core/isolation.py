"""Work that is done in a process of its own, because what it works on is hostile."""

from typing import Any, Protocol


class IsolatedTasks(Protocol):
    """Runs a task with limits of memory, CPU seconds and time; arguments and result are what JSON can carry."""

    async def run(self, task: str, arguments: dict[str, Any], *, timeout: float) -> Any:
        """Run a task by its name and return what it returned; raise a StageFailure."""
        ...
