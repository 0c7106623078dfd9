"""Providers as the stages and the API see them, for one call each: who it is for decides about budget and policy."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from imago.ai.offline.texts import UNDETERMINED
from imago.ai.prompts import describe_image, draft_task, read_page, summarize_page
from imago.ai.provider_client import Caller
from imago.ai.response_models import DraftAnswer, PageAnswer, SummaryAnswer, VisionAnswer
from imago.core.ai_usage.model import BUDGET_CODE, BudgetExhausted, BudgetPolicy, CallContext, CallObserver
from imago.core.ai_usage.text_tasks import Summary, TaskDraft, TextProvider, WebPage
from imago.core.images.results import OcrReading, VisionResult
from imago.core.images.vision import PageInput, VisionInput, VisionProvider
from imago.core.jobs.failures import PermanentFailure, Throttled, TransientFailure
from imago.core.times import utc_now

T = TypeVar("T")

_USED_UP = "The AI calls of this month are used up."


class Assistant:
    """Describes images, reads pages and works on texts by paid providers, for one client's call.

    `offline_vision` and `offline_texts` do the work where the client's policy is so, and, with `fall_back_offline`,
    where every provider fails.
    """

    def __init__(
        self,
        name: str,
        caller: Caller,
        context: CallContext,
        *,
        observer: CallObserver,
        offline_vision: VisionProvider,
        offline_texts: TextProvider,
        fall_back_offline: bool,
    ) -> None:
        self.name = name
        self._caller = caller
        self._context = context
        self._observer = observer
        self._offline_vision = offline_vision
        self._offline_texts = offline_texts
        self._fall_back_offline = fall_back_offline

    async def describe(self, image: VisionInput) -> VisionResult:
        """Describe an image."""

        async def by_provider() -> VisionResult:
            said = await self._caller.answer(describe_image(image), VisionAnswer, self._context)
            answer = said.answer
            return VisionResult(answer.description, tuple(answer.tags), round(answer.confidence, 4), said.model_used)

        return await self._or_offline(by_provider, lambda: self._offline_vision.describe(image))

    async def summarize(self, page: WebPage, *, language: str) -> Summary:
        """Summarize a page."""

        async def by_provider() -> Summary:
            said = await self._caller.answer(summarize_page(page, language=language), SummaryAnswer, self._context)
            return Summary(said.answer.summary, said.answer.language or UNDETERMINED, said.model_used)

        return await self._or_offline(by_provider, lambda: self._offline_texts.summarize(page, language=language))

    async def draft_task(self, description: str, *, context: str) -> TaskDraft:
        """Draft a task."""

        async def by_provider() -> TaskDraft:
            said = await self._caller.answer(draft_task(description, context=context), DraftAnswer, self._context)
            answer = said.answer
            return TaskDraft(
                title=answer.title,
                objective=answer.objective,
                steps=tuple(answer.steps),
                acceptance_criteria=tuple(answer.acceptance_criteria),
                estimate=answer.estimate,
                priority=answer.priority,
                tags=tuple(answer.tags),
                model_used=said.model_used,
            )

        return await self._or_offline(by_provider, lambda: self._offline_texts.draft_task(description, context=context))

    async def read_text(self, page: PageInput) -> OcrReading:
        """Read a page; a budget that is used up is a PermanentFailure, since there is nothing offline to take over."""
        try:
            said = await self._caller.answer(read_page(page), PageAnswer, self._context)
        except BudgetExhausted as used_up:
            self._observer.budget_exhausted(self._context.kind, self._context.policy)
            raise PermanentFailure(BUDGET_CODE, _USED_UP) from used_up
        answer = said.answer
        language = answer.language or None
        return OcrReading(bool(answer.text), answer.text, language, round(answer.confidence, 4), said.model_used)

    async def _or_offline(self, by_provider: Callable[[], Awaitable[T]], offline: Callable[[], Awaitable[T]]) -> T:
        try:
            return await by_provider()
        except BudgetExhausted as used_up:
            self._observer.budget_exhausted(self._context.kind, self._context.policy)
            match self._context.policy:
                case BudgetPolicy.HOLD:
                    raise Throttled(BUDGET_CODE, _USED_UP, used_up.until - utc_now()) from used_up
                case BudgetPolicy.REJECT:
                    raise PermanentFailure(BUDGET_CODE, _USED_UP) from used_up
                case BudgetPolicy.OFFLINE:
                    return await offline()
        except (Throttled, TransientFailure):
            if not self._fall_back_offline:
                raise
            self._observer.fell_back(self._context.kind, to=self._offline_texts.name)
            return await offline()
