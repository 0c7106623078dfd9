"""Workers and their child processes."""

import os
from typing import Annotated, Literal

from pydantic import Field, field_validator

from imago.core.lanes.worker_lanes import WorkerLanes
from imago.settings.base import LowerCase, Seconds, SettingsGroup


class WorkerSettings(SettingsGroup):
    """Concurrency, retries, heartbeats and the limits of child processes."""

    worker_lanes: str = "premium,standard"
    worker_max_jobs: int = Field(10, ge=1, le=10_000)
    worker_max_tries: int = Field(3, ge=1, le=1_000)
    worker_processes: int | None = Field(None, ge=1, le=1_000)
    """Child processes for decoding and OCR; unset: one per core, at most `worker_max_jobs`."""
    heartbeat: Seconds = 10.0
    """Seconds between two heartbeats; `ack_wait` and the lease of a claim are three of them."""
    retry_base: Seconds = 2.0
    retry_cap: Seconds = 300.0
    sandbox: Annotated[Literal["available", "required"], LowerCase] = "available"
    """`available`: child processes have what the machine has of the sandbox; `required`: all, or nothing starts."""
    child_memory_mb: int = Field(2048, ge=256, le=2**20)
    """Address space of a child process, in addition to what it has before its first task."""
    child_cpu_seconds: int = Field(120, ge=1, le=24 * 3600)
    """CPU seconds of one task in a child process."""

    @field_validator("worker_lanes")
    @classmethod
    def _known_lanes(cls, value: str) -> str:
        WorkerLanes.parse(value)
        return value

    @property
    def children(self) -> int:
        """The number of child processes."""
        return self.worker_processes or min(os.cpu_count() or 1, self.worker_max_jobs)

    @property
    def ack_wait(self) -> float:
        """Seconds after which an unacknowledged message is redelivered: three heartbeats, so that one may be lost."""
        return 3 * self.heartbeat
