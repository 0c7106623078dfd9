"""Circuit breakers that processes share through a real NATS server."""

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

PROBE = timedelta(seconds=30)


class RecordingObserver(ProviderCalls):
    """An observer that records breakers."""

    def __init__(self) -> None:
        self.blind = 0
        self.states: dict[str, bool] = {}

    def breaker(self, states: Mapping[str, bool]) -> None:
        self.states = dict(states)

    def breaker_blind(self) -> None:
        self.blind += 1


class Clock:
    """A clock that only tests advance."""

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
) -> AsyncIterator[tuple[SharedBreaker, SharedBreaker, Clock, RecordingObserver]]:
    """Two processes with the same breakers, each with its own connection."""
    await ensure_streams(nats.js)
    clock, observed = Clock(), RecordingObserver()
    async with connected(nats_server.url) as one, connected(nats_server.url) as other:
        yield (
            SharedBreaker(one, probe=PROBE, clock=clock, observer=observed),
            SharedBreaker(other, probe=PROBE, clock=clock),
            clock,
            observed,
        )


async def test_a_breaker_opens_and_closes_for_all_processes(
    pair: tuple[SharedBreaker, SharedBreaker, Clock, RecordingObserver],
) -> None:
    one, other, clock, observed = pair
    assert await other.wait("gemini") is None
    assert await one.failed("gemini", retry_after=timedelta(seconds=40)) == timedelta(seconds=40)
    assert await other.wait("gemini") == timedelta(seconds=40)
    assert await other.wait("openrouter") is None
    clock.now += 41
    # Concurrently: one probes, the other waits.
    waits = await asyncio.gather(one.wait("gemini"), other.wait("gemini"))
    assert sorted(wait is None for wait in waits) == [False, True]
    probing, waiting = (one, other) if waits[0] is None else (other, one)
    assert await waiting.wait("gemini") is not None
    await probing.succeeded("gemini")
    assert await waiting.wait("gemini") is None
    assert observed.blind == 0


async def test_failures_of_all_processes_are_added_up(
    pair: tuple[SharedBreaker, SharedBreaker, Clock, RecordingObserver],
) -> None:
    one, other, _, observed = pair
    failures = [breaker.failed("gemini") for breaker in (one, other) for _ in range(THRESHOLD)]
    await asyncio.gather(*failures)
    assert await one.wait("gemini") is not None
    assert await other.wait("gemini") is not None
    assert observed.states == {"gemini": True}


async def test_a_probe_without_a_result_lets_another_process_probe(
    pair: tuple[SharedBreaker, SharedBreaker, Clock, RecordingObserver],
) -> None:
    one, other, clock, _ = pair
    await one.failed("gemini", retry_after=timedelta(seconds=10))
    clock.now += 11
    assert await one.wait("gemini") is None
    assert await other.wait("gemini") is not None
    await one.released("gemini")
    assert await other.wait("gemini") is None


async def test_an_unreadable_state_is_a_closed_breaker(
    pair: tuple[SharedBreaker, SharedBreaker, Clock, RecordingObserver], nats: NatsConnection
) -> None:
    bucket = await nats.js.key_value(BREAKERS_BUCKET)
    await bucket.put("gemini", b"\xff not json")
    one, other, _, _ = pair
    assert await one.wait("gemini") is None
    await one.failed("gemini", retry_after=PROBE)
    assert await other.wait("gemini") is not None


async def test_without_nats_each_process_uses_its_own_copy_and_counts_it(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    clock, observed = Clock(), RecordingObserver()
    try:
        async with connected(server.url) as nats, connected(server.url) as elsewhere:
            await ensure_streams(nats.js)
            breaker = SharedBreaker(nats, probe=PROBE, clock=clock, observer=observed)
            other = SharedBreaker(elsewhere, probe=PROBE, clock=clock)
            assert await breaker.wait("gemini") is None
            assert observed.blind == 0
            server.kill()
            # The copy starts closed, and opens after failures of this process.
            assert await breaker.wait("gemini") is None
            assert observed.blind == 1
            await breaker.failed("gemini", retry_after=PROBE)
            assert await breaker.wait("gemini") == PROBE
            assert await other.wait("gemini") is None
            server.start()

            async def shared() -> bool:
                before = observed.blind
                await breaker.failed("gemini", retry_after=PROBE)
                return observed.blind == before

            await until(shared, what="the breaker to be shared again", interval=0.2)

            async def known() -> bool:
                return await other.wait("gemini") is not None

            await until(known, what="the other process to see the failure", interval=0.2)
    finally:
        server.stop()


# The additional permissions of a worker that calls providers (charts/imago/templates/nats.yaml has them, too).
BREAKER_PERMISSIONS = """
  publish: { allow: [
    "$JS.API.STREAM.INFO.KV_imago_breakers", "$JS.API.STREAM.MSG.GET.KV_imago_breakers",
    "$JS.API.DIRECT.GET.KV_imago_breakers.>", "$KV.imago_breakers.>" ] }
  subscribe: { allow: ["_INBOX_imago_worker-vision.>"] }
"""


async def test_breakers_need_only_their_permissions(tmp_path: Path) -> None:
    users = f"""authorization {{ users: [
      {{ user: api, password: a }},
      {{ user: worker, password: w, permissions: {{ {BREAKER_PERMISSIONS} }} }} ] }}"""
    server = NatsServer(tmp_path, users)
    server.start()
    try:
        async with (
            connected(server.url, nats_user="api", nats_password="a") as admin,
            connected(server.url, nats_user="worker", nats_password="w") as nats,
        ):
            await ensure_streams(admin.js)
            observed = RecordingObserver()
            breaker = SharedBreaker(nats, probe=PROBE, observer=observed)
            await breaker.failed("gemini", retry_after=PROBE)
            assert await SharedBreaker(admin, probe=PROBE).wait("gemini") is not None
            assert await breaker.wait("gemini") is not None
            assert observed.blind == 0
    finally:
        server.stop()
