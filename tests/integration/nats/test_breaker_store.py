"""Breakers that processes share through a real NATS server."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from devtools.nats import NatsServer
from devtools.waiting import until
from imago.core.ai_usage.breaker import THRESHOLD
from imago.core.outbox.subjects import BREAKERS_BUCKET
from imago.nats.breaker_store import SharedBreaker
from imago.nats.connection import NatsConnection
from imago.nats.streams import ensure_streams
from imago.settings import Settings
from imago.telemetry.provider_calls import ProviderCalls

SOON = timedelta(seconds=30)


class Seen(ProviderCalls):
    """An observer that remembers."""

    def __init__(self) -> None:
        self.blind = 0
        self.states: dict[str, bool] = {}

    def breaker(self, states: Mapping[str, bool]) -> None:
        self.states = dict(states)

    def breaker_blind(self) -> None:
        self.blind += 1


class Clock:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def connected(url: str, **settings: object) -> AsyncIterator[NatsConnection]:
    nats = NatsConnection(Settings(nats_url=(url,), **settings), name="worker-vision")  # type: ignore[arg-type]
    await nats.start()
    await nats.wait_connected(10)
    yield nats
    await nats.close()


@pytest.fixture
async def pair(
    nats_server: NatsServer, nats: NatsConnection
) -> AsyncIterator[tuple[SharedBreaker, SharedBreaker, Clock, Seen]]:
    """Two processes' views of one breaker, each over a connection of its own."""
    await ensure_streams(nats.js)
    clock, seen = Clock(), Seen()
    async with connected(nats_server.url) as one, connected(nats_server.url) as other:
        yield (
            SharedBreaker(one, probe=SOON, clock=clock, observer=seen),
            SharedBreaker(other, probe=SOON, clock=clock),
            clock,
            seen,
        )


async def test_what_one_process_learns_the_other_knows(
    pair: tuple[SharedBreaker, SharedBreaker, Clock, Seen],
) -> None:
    one, other, clock, seen = pair
    assert await other.wait("gemini") is None
    assert await one.failed("gemini", retry_after=timedelta(seconds=40)) == timedelta(seconds=40)
    assert await other.wait("gemini") == timedelta(seconds=40)
    assert await other.wait("openrouter") is None
    clock.now += 41
    # Both ask at once: one tries, the other waits.
    waits = await asyncio.gather(one.wait("gemini"), other.wait("gemini"))
    assert sorted(wait is None for wait in waits) == [False, True]
    tried, waiting = (one, other) if waits[0] is None else (other, one)
    assert await waiting.wait("gemini") is not None
    await tried.succeeded("gemini")
    assert await waiting.wait("gemini") is None
    assert seen.blind == 0


async def test_failures_of_all_processes_count_together(
    pair: tuple[SharedBreaker, SharedBreaker, Clock, Seen],
) -> None:
    one, other, _, seen = pair
    failures = [breaker.failed("gemini") for breaker in (one, other) for _ in range(THRESHOLD)]
    await asyncio.gather(*failures)
    assert await one.wait("gemini") is not None
    assert await other.wait("gemini") is not None
    assert seen.states == {"gemini": True}


async def test_a_try_that_told_nothing_lets_another_try(
    pair: tuple[SharedBreaker, SharedBreaker, Clock, Seen],
) -> None:
    one, other, clock, _ = pair
    await one.failed("gemini", retry_after=timedelta(seconds=10))
    clock.now += 11
    assert await one.wait("gemini") is None
    assert await other.wait("gemini") is not None
    await one.released("gemini")
    assert await other.wait("gemini") is None


async def test_rubbish_in_the_bucket_is_a_closed_breaker(
    pair: tuple[SharedBreaker, SharedBreaker, Clock, Seen], nats: NatsConnection
) -> None:
    bucket = await nats.js.key_value(BREAKERS_BUCKET)
    await bucket.put("gemini", b"\xff not json")
    one, other, _, _ = pair
    assert await one.wait("gemini") is None
    await one.failed("gemini", retry_after=SOON)
    assert await other.wait("gemini") is not None


async def test_while_nats_is_away_each_process_goes_by_itself_and_that_is_counted(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    clock, seen = Clock(), Seen()
    try:
        async with connected(server.url) as nats, connected(server.url) as elsewhere:
            await ensure_streams(nats.js)
            breaker = SharedBreaker(nats, probe=SOON, clock=clock, observer=seen)
            other = SharedBreaker(elsewhere, probe=SOON, clock=clock)
            assert await breaker.wait("gemini") is None
            assert seen.blind == 0
            server.kill()
            # Open by default, closed by its own experience.
            assert await breaker.wait("gemini") is None
            assert seen.blind == 1
            await breaker.failed("gemini", retry_after=SOON)
            assert await breaker.wait("gemini") == SOON
            assert await other.wait("gemini") is None
            server.start()

            async def shared() -> bool:
                before = seen.blind
                await breaker.failed("gemini", retry_after=SOON)
                return seen.blind == before

            await until(shared, what="the breaker to be shared again", interval=0.2)

            async def known() -> bool:
                return await other.wait("gemini") is not None

            await until(known, what="the other process to know of it", interval=0.2)
    finally:
        server.stop()


# What a worker that calls providers may do with the breakers, beside a worker's other rights (docs/operate.md).
BREAKER_RIGHTS = """
  publish: { allow: [
    "$JS.API.STREAM.INFO.KV_imago_breakers", "$JS.API.STREAM.MSG.GET.KV_imago_breakers",
    "$JS.API.DIRECT.GET.KV_imago_breakers.>", "$KV.imago_breakers.>" ] }
  subscribe: { allow: ["_INBOX_imago_worker-vision.>"] }
"""


async def test_breakers_need_these_rights_and_no_more(tmp_path: Path) -> None:
    users = f"""authorization {{ users: [
      {{ user: api, password: a }},
      {{ user: worker, password: w, permissions: {{ {BREAKER_RIGHTS} }} }} ] }}"""
    server = NatsServer(tmp_path, users)
    server.start()
    try:
        async with (
            connected(server.url, nats_user="api", nats_password="a") as admin,
            connected(server.url, nats_user="worker", nats_password="w") as nats,
        ):
            await ensure_streams(admin.js)
            seen = Seen()
            breaker = SharedBreaker(nats, probe=SOON, observer=seen)
            await breaker.failed("gemini", retry_after=SOON)
            assert await SharedBreaker(admin, probe=SOON).wait("gemini") is not None
            assert await breaker.wait("gemini") is not None
            assert seen.blind == 0
    finally:
        server.stop()
