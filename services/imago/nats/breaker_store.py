"""Circuit breakers shared by all processes, in the JetStream bucket `imago_breakers`.

Changes are compare-and-set, so of two processes one tries a provider and the other waits. While NATS is away each
process goes by its own memory of the breakers, which at first lets everything through: a call too many is better than
none at all. That is counted.
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

# For reading a state and writing it; a call to a provider takes seconds and shouldn't wait longer for its breaker.
_PATIENCE_SECONDS = 2.0

# Who loses this often against others has been overtaken by their news.
_TRIES = 5

_Change = Callable[[BreakerState, float], BreakerState]


class SharedBreaker:
    """The breakers of all providers; `probe` is how long a try may take before another process may try, too."""

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
        """Return how long the provider is to be left alone; None lets the caller call it, or try it."""
        seconds = 0.0

        def take(state: BreakerState, now: float) -> BreakerState:
            nonlocal seconds
            seconds = seconds_to_wait(state, now)
            return state if seconds else with_probe(state, now, seconds=self._probe)

        await self._change(provider, take)
        return timedelta(seconds=seconds) if seconds else None

    async def succeeded(self, provider: str) -> None:
        """Close the breaker, or forget the failures; costs nothing while all is well."""
        if self._known.get(provider, BreakerState()) != BreakerState():
            await self._change(provider, after_success)

    async def failed(self, provider: str, *, retry_after: timedelta | None = None) -> timedelta:
        """Count a failure, and return how long the provider is to be left alone from now on."""
        seconds = None if retry_after is None else retry_after.total_seconds()
        state = await self._change(provider, lambda state, now: after_failure(state, now, retry_after=seconds))
        return timedelta(seconds=seconds_to_wait(state, self._clock()))

    async def released(self, provider: str) -> None:
        """Let somebody else try the provider; costs nothing while all is well."""
        if self._known.get(provider, BreakerState()).tripped:
            await self._change(provider, without_probe)

    async def _change(self, provider: str, change: _Change) -> BreakerState:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                state = await self._change_shared(provider, change)
        except (NatsError, OSError, NatsUnavailable, TimeoutError) as error:
            log.warning("the breakers' state is out of reach, going by this process' own", error=type(error).__name__)
            self._bucket = None
            if self._observer is not None:
                self._observer.breaker_blind()
            state = change(self._known.get(provider, BreakerState()), self._clock())
        if state.tripped != self._known.get(provider, BreakerState()).tripped:
            log.warning("a provider's breaker is open" if state.tripped else "a breaker is closed", provider=provider)
        self._known[provider] = state
        if self._observer is not None:
            self._observer.breaker({name: known.tripped for name, known in self._known.items()})
        return state

    async def _change_shared(self, provider: str, change: _Change) -> BreakerState:
        bucket = await self._open()
        for _ in range(_TRIES):
            try:
                entry = await bucket.get(provider)
                state, revision = BreakerState.from_json(_decoded(entry.value)), entry.revision
            except KeyNotFoundError:
                state, revision = BreakerState(), None
            wanted = change(state, self._clock())
            if wanted == state:
                return state
            try:
                data = orjson.dumps(wanted.to_json())
                if revision is None:
                    await bucket.create(provider, data)
                else:
                    await bucket.update(provider, data, last=revision)
            except KeyWrongLastSequenceError:
                continue
            return wanted
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
