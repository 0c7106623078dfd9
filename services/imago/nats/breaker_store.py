"""Circuit breakers that all processes share, in the JetStream key-value bucket `imago_breakers`.

Updates are compare-and-set, so of two processes only one probes a provider. While NATS is unavailable, each process
uses its own copy of the breakers, which starts closed: an extra call to a failing provider is better than no calls at
all. A counter records such use.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

import orjson
import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from imago.core.ai_usage.breaker import (
    BreakerState,
    after_failure,
    after_success,
    seconds_to_wait,
    with_probe,
    without_probe,
)
from imago.core.ai_usage.model import CallObserver
from imago.core.outbox.subjects import BREAKERS_BUCKET
from imago.nats.connection import NatsConnection, NatsUnavailable

log = structlog.get_logger(__name__)

# For a read and a write of the state. A call to a provider takes seconds and must not wait longer for its breaker.
_TIMEOUT_SECONDS = 2.0

# A writer that loses this many races gives up: the winners' updates are newer than its own.
_MAX_ATTEMPTS = 5

_Change = Callable[[BreakerState, float], BreakerState]


class SharedBreaker:
    """The breakers of all providers; after `probe`, another process may probe a provider whose probe has no result."""

    def __init__(
        self,
        nats: NatsConnection,
        *,
        probe: timedelta,
        observer: CallObserver | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._nats = nats
        self._probe = probe.total_seconds()
        self._observer = observer
        self._clock = clock
        self._known: dict[str, BreakerState] = {}
        self._bucket: tuple[JetStreamContext, KeyValue] | None = None

    async def wait(self, provider: str) -> timedelta | None:
        """Return how long to wait before calling the provider, or None if the caller may call or probe it now."""
        seconds = 0.0

        def take(state: BreakerState, now: float) -> BreakerState:
            nonlocal seconds
            seconds = seconds_to_wait(state, now)
            return state if seconds else with_probe(state, now, seconds=self._probe)

        await self._change(provider, take)
        return timedelta(seconds=seconds) if seconds else None

    async def succeeded(self, provider: str) -> None:
        """Close the breaker and reset its failures; no request to NATS if the breaker is closed without failures."""
        if self._known.get(provider, BreakerState()) != BreakerState():
            await self._change(provider, after_success)

    async def failed(self, provider: str, *, retry_after: timedelta | None = None) -> timedelta:
        """Count a failure, and return how long to wait before the next call."""
        seconds = None if retry_after is None else retry_after.total_seconds()
        state = await self._change(provider, lambda state, now: after_failure(state, now, retry_after=seconds))
        return timedelta(seconds=seconds_to_wait(state, self._clock()))

    async def released(self, provider: str) -> None:
        """Let another caller probe the provider; no request to NATS if the breaker is closed."""
        if self._known.get(provider, BreakerState()).tripped:
            await self._change(provider, without_probe)

    async def _change(self, provider: str, change: _Change) -> BreakerState:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                state = await self._change_shared(provider, change)
        except (NatsError, OSError, NatsUnavailable, TimeoutError) as error:
            state = self._change_local(provider, change, error)
        if state.tripped != self._known.get(provider, BreakerState()).tripped:
            log.warning("breaker.opened" if state.tripped else "breaker.closed", provider=provider)
        self._known[provider] = state
        if self._observer is not None:
            self._observer.breaker({name: known.tripped for name, known in self._known.items()})
        return state

    def _change_local(self, provider: str, change: _Change, error: Exception) -> BreakerState:
        log.warning(
            "breaker.state-unavailable",
            provider=provider,
            error=type(error).__name__,
            message="NATS is unavailable; using this process's own copy of the breaker",
        )
        self._bucket = None
        if self._observer is not None:
            self._observer.breaker_blind()
        return change(self._known.get(provider, BreakerState()), self._clock())

    async def _change_shared(self, provider: str, change: _Change) -> BreakerState:
        bucket = await self._open()
        for _ in range(_MAX_ATTEMPTS):
            try:
                entry = await bucket.get(provider)
                state, revision = BreakerState.from_json(_decoded(entry.value)), entry.revision
            except KeyNotFoundError:
                state, revision = BreakerState(), None
            changed = change(state, self._clock())
            if changed == state:
                return state
            try:
                data = orjson.dumps(changed.to_json())
                if revision is None:
                    await bucket.create(provider, data)
                else:
                    await bucket.update(provider, data, last=revision)
            except KeyWrongLastSequenceError:
                continue
            return changed
        return state

    async def _open(self) -> KeyValue:
        if not self._nats.connected:
            raise NatsUnavailable("not connected")
        js = self._nats.js
        if self._bucket is None or self._bucket[0] is not js:
            self._bucket = js, await js.key_value(BREAKERS_BUCKET)
        return self._bucket[1]


def _decoded(value: bytes | None) -> object:
    try:
        return orjson.loads(value or b"null")
    except orjson.JSONDecodeError:
        return None
