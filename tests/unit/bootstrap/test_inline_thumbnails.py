"""A thumbnail during an upload has the limits of the stage."""

from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from imago.bootstrap.api import inline_thumbnailer
from imago.core.jobs.failures import PermanentFailure
from imago.imaging.sandbox.pool import ChildPool
from imago.imaging.sandbox.seats import Seats
from imago.settings import Settings
from imago.worker.stages.base import StageTools
from imago.worker.stages.cpu import cpu_to_decode


class LimitedPool(ChildPool):
    """A pool that records the CPU limit of its tasks and fails them before a child starts."""

    limit: float | None = None

    async def _idle_child(self) -> Any:
        raise PermanentFailure("broken-image", "The image is broken.")

    async def run(self, *args: Any, cpu_seconds: float | None = None, **options: Any) -> Any:
        self.limit = cpu_seconds
        return await super().run(*args, cpu_seconds=cpu_seconds, **options)


async def test_it_is_limited_by_its_pixels_and_waits_as_its_clients_task(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = []
    acquire = Seats.acquire

    async def recorded(seats: Seats, client: Any) -> None:
        clients.append(client)
        await acquire(seats, client)

    monkeypatch.setattr(Seats, "acquire", recorded)

    @asynccontextmanager
    async def local_copy(_key: str) -> Any:
        yield Path("original")

    settings = Settings()
    children = LimitedPool(size=1, memory_mb=512, cpu_seconds=600)
    store: Any = SimpleNamespace(local_copy=local_copy)
    make = inline_thumbnailer(StageTools(settings, store, children))
    assert await make("original", "thumbnail", client=7, pixels=3_000_000) is None
    assert clients == [7]
    assert children.limit == cpu_to_decode(3_000_000, settings)
