"""A client's slow jobs leave room for the jobs of others; fast ones are not held up."""

import asyncio
from uuid import uuid4

import pytest

from imago.worker import shares
from imago.worker.shares import ClientShares


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "_SLOW_SECONDS", 0.2)


async def test_further_jobs_are_refused_while_none_ends_and_others_are_admitted() -> None:
    admitted, client = ClientShares(2), uuid4()
    assert [await admitted.enter(client) for _ in range(3)] == [True, True, False]
    # The next one is refused without another wait.
    async with asyncio.timeout(0.1):
        assert not await admitted.enter(client)
    assert await admitted.enter(uuid4())


async def test_a_job_starts_when_another_one_of_its_client_ends() -> None:
    admitted, client = ClientShares(1), uuid4()
    for _ in range(5):
        assert await admitted.enter(client)
        waiting = asyncio.create_task(admitted.enter(client))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        admitted.leave(client)
        assert await waiting
        admitted.leave(client)


async def test_nothing_is_remembered_of_clients_without_jobs() -> None:
    admitted = ClientShares(1)
    for _ in range(3):
        client = uuid4()
        assert await admitted.enter(client)
        assert not await admitted.enter(client)
        admitted.leave(client)
    assert admitted._clients == {}
