"""A provider for the calls of one client, which applies the client's budget policy and falls back offline."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from imago.ai.offline.text_provider import UNDETERMINED
from imago.ai.prompts import describe_image, draft_task, summarize_page, transcribe_page
from imago.ai.provider_client import ProviderClient
from imago.ai.response_models import DraftAnswer, SummaryAnswer, TranscriptionAnswer, VisionAnswer
from imago.core.ai_usage.model import BUDGET_CODE, BudgetExhausted, BudgetPolicy, CallContext, CallObserver
from imago.core.ai_usage.text_tasks import Summary, TaskDraft, TextProvider, WebPage
from imago.core.images.results import OcrReading, VisionResult
from imago.core.images.vision import OcrInput, VisionInput, VisionProvider
from imago.core.jobs.failures import PermanentFailure, Throttled, TransientFailure
from imago.core.times import utc_now

T = TypeVar("T")

_EXHAUSTED = "This month's AI calls are used up."


class BudgetedProvider:
    """Describes images, reads pages and works on texts by AI services, within one client's budget.

    The offline providers are used if the budget is exhausted and the client's policy is `offline`, and, with
    `fall_back_offline`, if all services fail.
    """

    def __init__(
        self,
        name: str,
        client: ProviderClient,
        context: CallContext,
        *,
        observer: CallObserver,
        offline_vision: VisionProvider,
        offline_texts: TextProvider,
        fall_back_offline: bool,
    ) -> None:
        self.name = name
        self._client = client
        self._context = context
        self._observer = observer
        self._offline_vision = offline_vision
        self._offline_texts = offline_texts
        self._fall_back_offline = fall_back_offline

    async def describe(self, image: VisionInput) -> VisionResult:
        """Describe an image."""

        async def request() -> VisionResult:
            response = await self._client.request(describe_image(image), VisionAnswer, self._context)
            answer = response.answer
            return VisionResult(
                answer.description, tuple(answer.tags), round(answer.confidence, 4), response.model_used
            )

        return await self._or_offline(request, lambda: self._offline_vision.describe(image))

    async def summarize(self, page: WebPage, *, language: str) -> Summary:
        """Summarize a page."""

        async def request() -> Summary:
            response = await self._client.request(summarize_page(page, language=language), SummaryAnswer, self._context)
            return Summary(response.answer.summary, response.answer.language or UNDETERMINED, response.model_used)

        return await self._or_offline(request, lambda: self._offline_texts.summarize(page, language=language))

    async def draft_task(self, description: str, *, context: str) -> TaskDraft:
        """Draft a task."""

        async def request() -> TaskDraft:
            response = await self._client.request(draft_task(description, context=context), DraftAnswer, self._context)
            answer = response.answer
            return TaskDraft(
                title=answer.title,
                objective=answer.objective,
                steps=tuple(answer.steps),
                acceptance_criteria=tuple(answer.acceptance_criteria),
                estimate=answer.estimate,
                priority=answer.priority,
                tags=tuple(answer.tags),
                model_used=response.model_used,
            )

        return await self._or_offline(request, lambda: self._offline_texts.draft_task(description, context=context))

    async def read_text(self, page: OcrInput) -> OcrReading:
        """Read a page. An exhausted budget is a PermanentFailure, because there is no offline provider for it."""
        try:
            response = await self._client.request(transcribe_page(page), TranscriptionAnswer, self._context)
        except BudgetExhausted as exhausted:
            self._observer.budget_exhausted(self._context.kind, self._context.policy)
            raise PermanentFailure(BUDGET_CODE, _EXHAUSTED) from exhausted
        answer = response.answer
        language = answer.language or None
        return OcrReading(bool(answer.text), answer.text, language, round(answer.confidence, 4), response.model_used)

    async def _or_offline(self, request: Callable[[], Awaitable[T]], offline: Callable[[], Awaitable[T]]) -> T:
        try:
            return await request()
        except BudgetExhausted as exhausted:
            self._observer.budget_exhausted(self._context.kind, self._context.policy)
            match self._context.policy:
                case BudgetPolicy.HOLD:
                    raise Throttled(BUDGET_CODE, _EXHAUSTED, exhausted.until - utc_now()) from exhausted
                case BudgetPolicy.REJECT:
                    raise PermanentFailure(BUDGET_CODE, _EXHAUSTED) from exhausted
                case BudgetPolicy.OFFLINE:
                    return await offline()
        except (Throttled, TransientFailure):
            if not self._fall_back_offline:
                raise
            self._observer.fell_back(self._context.kind, to=self._offline_texts.name)
            return await offline()
