"""Request answers from AI services, within budgets and circuit breakers.

A request goes through breaker, budget, call, validation, one correction of an invalid answer, one retry, and then to
the next provider. The result is a valid answer, or one failure that says what a worker should do: park the work, try
again, or give up.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Generic, TypeVar

import structlog

from imago.ai.prompts import Prompt
from imago.ai.providers.base import LanguageModel, Reply
from imago.ai.providers.failures import CallFailed, CallOutcome
from imago.ai.response_models import InvalidAnswer, ModelAnswer, decode
from imago.core.ai_usage.model import Breaker, CallContext, CallObserver, Ledger, Price, TokenUsage
from imago.core.jobs.failures import PermanentFailure, StageFailure, Throttled, TransientFailure, backoff

log = structlog.get_logger(__name__)

A = TypeVar("A", bound=ModelAnswer)

# All calls of one request together, of all providers, take at most this many times the time-out of one call.
REQUEST_TIMEOUTS = 2

# The pause before the one retry of a failed call: half of it, and up to all of it more at random.
RETRY_PAUSE = timedelta(seconds=1)

# For a provider that throttles without a delay.
_THROTTLED_PAUSE = timedelta(seconds=20)
# For a provider that doesn't accept this server. An operator has to fix it, and may do so at any moment.
_MISCONFIGURED_PAUSE = timedelta(minutes=5)

# The wait of parked work is extended at random by up to this share, so that not all of it returns simultaneously.
_SPREAD = 0.25
MIN_WAIT = timedelta(seconds=5)

_FAILURES = {
    CallOutcome.THROTTLED: ("provider-throttled", "The AI provider throttles requests."),
    CallOutcome.UNAVAILABLE: ("provider-unavailable", "The AI provider is unavailable."),
    CallOutcome.MISCONFIGURED: (
        "provider-misconfigured",
        "The AI provider doesn't accept this server's account or model.",
    ),
    CallOutcome.ERROR: ("provider-error", "The AI provider failed."),
    CallOutcome.TIMEOUT: ("provider-timeout", "The AI provider took too long."),
    CallOutcome.INVALID: ("provider-answer-invalid", "The AI provider's answer was invalid."),
    CallOutcome.BLOCKED: ("safety-block", "The AI provider declines to process this content."),
    CallOutcome.REFUSED: ("provider-refused", "The AI provider can't process this content."),
}
_BREAKER_OPEN = ("provider-paused", "Calls to the AI provider are paused after failures or throttling.")
_PARKED = frozenset({CallOutcome.THROTTLED, CallOutcome.UNAVAILABLE, CallOutcome.MISCONFIGURED})
_FINAL = frozenset({CallOutcome.BLOCKED, CallOutcome.REFUSED})
_RETRIED = frozenset({CallOutcome.UNAVAILABLE, CallOutcome.ERROR})


@dataclass(frozen=True)
class ProviderAnswer(Generic[A]):
    """An answer and its model (`provider/model`)."""

    answer: A
    model_used: str


class ProviderClient:
    """Requests answers from models in the given order; `timeout` is the time-out of one call in seconds."""

    def __init__(
        self,
        models: Sequence[LanguageModel],
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

    async def request(self, prompt: Prompt, answer_type: type[A], context: CallContext) -> ProviderAnswer[A]:
        """Return an answer; raise a StageFailure, BudgetExhausted, or an error of the ledger."""
        deadline = time.monotonic() + REQUEST_TIMEOUTS * self._timeout
        failures: list[StageFailure] = []
        for model in self._models:
            target = _Target(model, context, deadline)
            try:
                answer = await self._request_from(target, prompt, answer_type)
            except PermanentFailure:
                raise
            except StageFailure as failure:
                failures.append(failure)
                continue
            if failures:
                self._observer.fell_back(context.kind, to=model.provider)
            return answer
        raise _combined(failures)

    async def close(self) -> None:
        """Close the models' connections."""
        for model in self._models:
            await model.close()

    async def _request_from(self, target: "_Target", prompt: Prompt, answer_type: type[A]) -> ProviderAnswer[A]:
        provider = target.model.provider
        wait = await self._breaker.wait(provider)
        if wait is not None:
            raise _throttled(*_BREAKER_OPEN, wait)
        try:
            reply = await self._call_with_retry(target, prompt)
            try:
                return self._decode(target, reply, answer_type)
            except InvalidAnswer as error:
                reason = str(error)
            log.info("provider-answer.corrected", provider=provider, reason=reason)
            corrected = await self._call(target, prompt.with_correction(reply.text, reason))
            try:
                return self._decode(target, corrected, answer_type)
            except InvalidAnswer as error:
                log.warning("provider-answer.invalid", provider=provider, reason=str(error))
                raise _failure(CallOutcome.INVALID) from None
        except CallFailed as failed:
            raise await self._record_failure(provider, failed) from None
        except BaseException:
            # This is not the provider's fault, so the breaker may let another call through.
            await asyncio.shield(self._breaker.released(provider))
            raise

    def _decode(self, target: "_Target", reply: Reply, answer_type: type[A]) -> ProviderAnswer[A]:
        provider = target.model.provider
        try:
            answer = decode(reply.text, answer_type)
        except InvalidAnswer:
            self._observer.invalid(provider, target.context.kind)
            raise
        return ProviderAnswer(answer, f"{provider}/{reply.usage.model}")

    async def _call_with_retry(self, target: "_Target", prompt: Prompt) -> Reply:
        try:
            return await self._call(target, prompt)
        except CallFailed as failed:
            pause = (RETRY_PAUSE / 2 + backoff(1, base=RETRY_PAUSE, cap=RETRY_PAUSE)).total_seconds()
            too_late = time.monotonic() + pause > target.deadline - self._timeout
            if failed.outcome not in _RETRIED or failed.retry_after is not None or too_late:
                raise
        await self._breaker.failed(target.model.provider)
        await asyncio.sleep(pause)
        return await self._call(target, prompt)

    async def _call(self, target: "_Target", prompt: Prompt) -> Reply:
        """Make one call, with a reservation that is settled after it; raise CallFailed."""
        model, kind = target.model, target.context.kind
        timeout = min(self._timeout, target.deadline - time.monotonic())
        if timeout <= 0:
            raise CallFailed(CallOutcome.TIMEOUT)
        reservation = await self._ledger.reserve(target.context, provider=model.provider)
        started = time.monotonic()
        outcome, usage, reached = CallOutcome.ERROR, None, True
        try:
            with self._observer.span(model.provider, model.model, kind):
                reply = await _generate(model, prompt, timeout=timeout)
            outcome, usage = CallOutcome.OK, self._priced(reply.usage)
        except CallFailed as failed:
            outcome, reached = failed.outcome, failed.reached
            usage = None if failed.usage is None else self._priced(failed.usage)
            log.info("provider.call-failed", provider=model.provider, outcome=failed.outcome, note=failed.note)
            raise
        finally:
            # Shielded, because a cancelled call has to be paid too.
            await asyncio.shield(self._settle(reservation, usage, reached=reached, model=model))
            self._observer.called(model.provider, kind, outcome=outcome, seconds=time.monotonic() - started)
            if usage is not None:
                self._observer.used(model.provider, kind, usage)
        await self._breaker.succeeded(model.provider)
        return replace(reply, usage=usage or reply.usage)

    async def _settle(self, reservation: int, usage: TokenUsage | None, *, reached: bool, model: LanguageModel) -> None:
        if usage is None and not reached:
            await self._ledger.cancel(reservation)
        else:
            await self._ledger.settle(reservation, usage or TokenUsage(model.model))

    def _priced(self, usage: TokenUsage) -> TokenUsage:
        price = self._prices.get(usage.model)
        if usage.cost_microusd is not None or price is None:
            return usage
        return replace(usage, cost_microusd=price.of(usage))

    async def _record_failure(self, provider: str, failed: CallFailed) -> StageFailure:
        """Report a failed call to the breaker, and return the failure of the work."""
        if failed.outcome in _FINAL:
            # The provider works. It only declines this content.
            await self._breaker.succeeded(provider)
            return _failure(failed.outcome)
        if failed.outcome is CallOutcome.INVALID:
            await self._breaker.released(provider)
            return _failure(failed.outcome)
        delay = failed.retry_after
        if failed.outcome is CallOutcome.THROTTLED:
            delay = delay or _THROTTLED_PAUSE
        elif failed.outcome is CallOutcome.MISCONFIGURED:
            log.error(
                "provider.misconfigured",
                provider=provider,
                message="The provider doesn't accept this server's account or model.",
            )
            delay = _MISCONFIGURED_PAUSE
        return _failure(failed.outcome, await self._breaker.failed(provider, retry_after=delay))


@dataclass(frozen=True)
class _Target:
    """The model of a request, the context of its calls, and the deadline of the request (`time.monotonic`)."""

    model: LanguageModel
    context: CallContext
    deadline: float


async def _generate(model: LanguageModel, prompt: Prompt, *, timeout: float) -> Reply:
    try:
        # The model has the same time-out. This one is a second longer, in case the model doesn't observe its own.
        async with asyncio.timeout(timeout + 1):
            return await model.generate(prompt, timeout=timeout)
    except TimeoutError:
        raise CallFailed(CallOutcome.TIMEOUT, reached=True) from None


def _failure(outcome: CallOutcome, wait: timedelta = timedelta(0)) -> StageFailure:
    code, text = _FAILURES[outcome]
    if outcome in _PARKED:
        return _throttled(code, text, wait)
    return PermanentFailure(code, text) if outcome in _FINAL else TransientFailure(code, text)


def _throttled(code: str, text: str, wait: timedelta) -> Throttled:
    delay = max(wait, MIN_WAIT)
    return Throttled(code, text, delay + backoff(1, base=delay * _SPREAD, cap=delay))


def _combined(failures: Sequence[StageFailure]) -> StageFailure:
    """Return the failure of all providers: the shortest wait if any of them only has to be waited for."""
    throttled = [failure for failure in failures if isinstance(failure, Throttled)]
    return min(throttled, key=lambda failure: failure.delay) if throttled else failures[0]
