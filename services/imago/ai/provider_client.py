"""One answer of a provider, with all that a paid call needs around it.

Breaker, budget, request, validation, one repair, one retry, and the next provider where one can't. What comes out is an
answer that holds to its schema, or one failure that says what a worker should do: wait outside the stream, try again,
or give up.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Generic, TypeVar

import structlog

from imago.ai.prompts import Prompt
from imago.ai.providers.base import Model, Reply
from imago.ai.providers.failures import CallFailed, Outcome
from imago.ai.response_models import Answer, InvalidAnswer, decode
from imago.core.ai_usage.model import Breaker, CallContext, CallObserver, Ledger, Price, TokenUsage
from imago.core.jobs.failures import PermanentFailure, StageFailure, Throttled, TransientFailure, backoff

log = structlog.get_logger(__name__)

A = TypeVar("A", bound=Answer)

# All requests for one answer, of all providers, take at most so many times the patience for one.
PATIENCES = 2

# Before the one retry of a request that failed by the provider's fault: up to so much more than the half of it.
_RETRY_PAUSE = timedelta(seconds=1)

# For a provider that asks for a pause and names none.
_PAUSE = timedelta(seconds=20)
# For a provider that doesn't accept this server: a person has to mend it, and a restart may come at any moment.
_MISCONFIGURED_PAUSE = timedelta(minutes=5)

# Those who wait for a provider come back spread over so much more of their wait.
_SPREAD = 0.25
_LEAST_WAIT = timedelta(seconds=5)

_TEXTS = {
    Outcome.THROTTLED: ("provider-throttled", "The AI provider asks for a pause."),
    Outcome.UNAVAILABLE: ("provider-unavailable", "The AI provider can't be reached."),
    Outcome.MISCONFIGURED: ("provider-misconfigured", "The AI provider doesn't accept this server's account or model."),
    Outcome.ERROR: ("provider-error", "The AI provider failed."),
    Outcome.TIMEOUT: ("provider-timeout", "The AI provider took too long."),
    Outcome.INVALID: ("provider-answer-invalid", "The AI provider's answer could not be used."),
    Outcome.BLOCKED: ("safety-block", "The AI provider declines to work on this content."),
    Outcome.REFUSED: ("provider-refused", "The AI provider can't process this content."),
}
# The breaker is open: nobody asked.
_PAUSED = ("provider-paused", "The AI provider is left alone for a while, after it failed or asked for a pause.")
_WAITING = frozenset({Outcome.THROTTLED, Outcome.UNAVAILABLE, Outcome.MISCONFIGURED})
_FINAL = frozenset({Outcome.BLOCKED, Outcome.REFUSED})
_RETRIED = frozenset({Outcome.UNAVAILABLE, Outcome.ERROR})


@dataclass(frozen=True)
class Answered(Generic[A]):
    """An answer, and who gave it (`provider/model`)."""

    answer: A
    model_used: str


class Caller:
    """Asks providers in their order; `timeout` is the patience for one request, in seconds."""

    def __init__(
        self,
        models: Sequence[Model],
        *,
        ledger: Ledger,
        breaker: Breaker,
        observer: CallObserver,
        prices: Mapping[str, Price],
        timeout: float,
    ) -> None:
        self._models = tuple(models)
        self._ledger = ledger
        self._breaker = breaker
        self._observer = observer
        self._prices = prices
        self._timeout = timeout

    async def answer(self, prompt: Prompt, expected: type[A], context: CallContext) -> Answered[A]:
        """Return an answer; raise a StageFailure, BudgetExhausted, or trouble of the ledger's own."""
        deadline = time.monotonic() + PATIENCES * self._timeout
        failures: list[StageFailure] = []
        for model in self._models:
            try:
                answered = await self._by(model, prompt, expected, context, deadline)
            except PermanentFailure:
                raise
            except StageFailure as failure:
                failures.append(failure)
                continue
            if failures:
                self._observer.fell_back(context.kind, to=model.provider)
            return answered
        raise _weightiest(failures)

    async def close(self) -> None:
        """Close the models' connections."""
        for model in self._models:
            await model.close()

    async def _by(
        self, model: Model, prompt: Prompt, expected: type[A], context: CallContext, deadline: float
    ) -> Answered[A]:
        waiting = await self._breaker.wait(model.provider)
        if waiting is not None:
            raise _waiting(*_PAUSED, waiting)
        try:
            reply = await self._ask_twice(model, prompt, context, deadline)
            try:
                return self._read(model, reply, expected, context)
            except InvalidAnswer as error:
                reason = str(error)
            log.info("an answer that doesn't fit, asking once more", provider=model.provider, reason=reason)
            repaired = await self._ask(model, prompt.repaired(reply.text, reason), context, deadline)
            try:
                return self._read(model, repaired, expected, context)
            except InvalidAnswer as error:
                log.warning("an answer that can't be used", provider=model.provider, reason=str(error))
                raise _failure(Outcome.INVALID) from None
        except CallFailed as failed:
            raise await self._said(model, failed) from None
        except BaseException:
            # Not the provider's doing: somebody else may try it.
            await asyncio.shield(self._breaker.released(model.provider))
            raise

    def _read(self, model: Model, reply: Reply, expected: type[A], context: CallContext) -> Answered[A]:
        try:
            answer = decode(reply.text, expected)
        except InvalidAnswer:
            self._observer.invalid(model.provider, context.kind)
            raise
        return Answered(answer, f"{model.provider}/{reply.usage.model}")

    async def _ask_twice(self, model: Model, prompt: Prompt, context: CallContext, deadline: float) -> Reply:
        try:
            return await self._ask(model, prompt, context, deadline)
        except CallFailed as failed:
            pause = (_RETRY_PAUSE / 2 + backoff(1, base=_RETRY_PAUSE, cap=_RETRY_PAUSE)).total_seconds()
            late = time.monotonic() + pause > deadline - self._timeout
            if failed.outcome not in _RETRIED or failed.retry_after is not None or late:
                raise
        await self._breaker.failed(model.provider)
        await asyncio.sleep(pause)
        return await self._ask(model, prompt, context, deadline)

    async def _ask(self, model: Model, prompt: Prompt, context: CallContext, deadline: float) -> Reply:
        """Make one request, reserved before and settled after; raise CallFailed."""
        patience = min(self._timeout, deadline - time.monotonic())
        if patience <= 0:
            raise CallFailed(Outcome.TIMEOUT)
        reservation = await self._ledger.reserve(context, provider=model.provider)
        began = time.monotonic()
        outcome, usage, reached = Outcome.ERROR, None, True
        try:
            with self._observer.span(model.provider, model.model, context.kind):
                try:
                    # The client's own deadline comes first; this one holds where it doesn't.
                    async with asyncio.timeout(patience + 1):
                        reply = await model.ask(prompt, timeout=patience)
                except TimeoutError:
                    raise CallFailed(Outcome.TIMEOUT, reached=True) from None
            outcome, usage = Outcome.OK, self._priced(reply.usage)
        except CallFailed as failed:
            outcome, reached = failed.outcome, failed.reached
            usage = None if failed.usage is None else self._priced(failed.usage)
            log.info("a provider gave no answer", provider=model.provider, outcome=failed.outcome, note=failed.note)
            raise
        finally:
            # Shielded: a worker that is stopped now has paid all the same.
            await asyncio.shield(self._settle(reservation, usage, reached=reached, model=model))
            seconds = time.monotonic() - began
            self._observer.called(model.provider, context.kind, outcome=outcome, seconds=seconds)
            if usage is not None:
                self._observer.used(model.provider, context.kind, usage)
        await self._breaker.succeeded(model.provider)
        return replace(reply, usage=usage or reply.usage)

    async def _settle(self, reservation: int, usage: TokenUsage | None, *, reached: bool, model: Model) -> None:
        if usage is None and not reached:
            await self._ledger.cancel(reservation)
        else:
            await self._ledger.settle(reservation, usage or TokenUsage(model.model))

    def _priced(self, usage: TokenUsage) -> TokenUsage:
        price = self._prices.get(usage.model)
        if usage.cost_microusd is not None or price is None:
            return usage
        return replace(usage, cost_microusd=price.of(usage))

    async def _said(self, model: Model, failed: CallFailed) -> StageFailure:
        """Tell the breaker of a failure, and return what it means for the work."""
        if failed.outcome in _FINAL:
            # The provider is well; it is this content that it won't have.
            await self._breaker.succeeded(model.provider)
            return _failure(failed.outcome)
        if failed.outcome is Outcome.INVALID:
            await self._breaker.released(model.provider)
            return _failure(failed.outcome)
        asked = failed.retry_after
        if failed.outcome is Outcome.THROTTLED:
            asked = asked or _PAUSE
        elif failed.outcome is Outcome.MISCONFIGURED:
            log.error("a provider doesn't accept this server's account or model", provider=model.provider)
            asked = _MISCONFIGURED_PAUSE
        return _failure(failed.outcome, await self._breaker.failed(model.provider, retry_after=asked))


def _failure(outcome: Outcome, wait: timedelta = timedelta(0)) -> StageFailure:
    code, text = _TEXTS[outcome]
    if outcome in _WAITING:
        return _waiting(code, text, wait)
    return PermanentFailure(code, text) if outcome in _FINAL else TransientFailure(code, text)


def _waiting(code: str, text: str, wait: timedelta) -> Throttled:
    least = max(wait, _LEAST_WAIT)
    return Throttled(code, text, least + backoff(1, base=least * _SPREAD, cap=least))


def _weightiest(failures: Sequence[StageFailure]) -> StageFailure:
    """Return what all providers' failures come to: a wait where any of them is only to be waited for."""
    waits = [failure for failure in failures if isinstance(failure, Throttled)]
    return min(waits, key=lambda failure: failure.delay) if waits else failures[0]
