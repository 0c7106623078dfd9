"""Build the providers that the settings name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pydantic import SecretStr

from imago.ai.budgeted_provider import BudgetedProvider
from imago.ai.offline.text_provider import OfflineTextProvider
from imago.ai.offline.vision.provider import OfflineVisionProvider
from imago.ai.provider_chain import ChosenModel, provider_chain
from imago.ai.provider_client import ProviderClient
from imago.ai.providers.base import GEMINI, OFFLINE, LanguageModel
from imago.ai.providers.gemini import GeminiModel
from imago.ai.providers.openrouter import OpenRouterModel
from imago.core.ai_usage.model import Breaker, CallContext, CallObserver, Ledger
from imago.core.ai_usage.text_tasks import TextProvider
from imago.core.images.vision import OcrProvider, Recognizer, VisionProvider
from imago.settings import Settings


@dataclass(frozen=True)
class Providers:
    """Functions that return the providers for a call's context.

    `ocr` is None without an AI service, because Tesseract reads text offline.
    """

    vision: Callable[[CallContext], VisionProvider]
    recognizer: Callable[[], Recognizer]
    texts: Callable[[CallContext], TextProvider]
    ocr: Callable[[CallContext], OcrProvider] | None
    client: ProviderClient | None = None

    async def close(self) -> None:
        """Close connections."""
        if self.client is not None:
            await self.client.close()


def build_providers(settings: Settings, *, ledger: Ledger, breaker: Breaker, observer: CallObserver) -> Providers:
    """Build the providers; raise StartupError."""
    recognizer = partial(_recognizer, settings)
    offline_vision = OfflineVisionProvider()
    offline_texts = OfflineTextProvider()
    chain = provider_chain(settings)
    models = [_model(chosen, settings) for chosen in chain if chosen.provider != OFFLINE]
    if not models:
        return Providers(
            vision=lambda _: offline_vision, recognizer=recognizer, texts=lambda _: offline_texts, ocr=None
        )
    client = ProviderClient(
        models,
        ledger=ledger,
        breaker=breaker,
        observer=observer,
        prices=settings.ai_prices,
        timeout=settings.ai_timeout,
    )
    budgeted = partial(
        BudgetedProvider,
        models[0].provider,
        client,
        observer=observer,
        offline_vision=offline_vision,
        offline_texts=offline_texts,
        fall_back_offline=chain[-1].provider == OFFLINE,
    )
    return Providers(vision=budgeted, recognizer=recognizer, texts=budgeted, ocr=budgeted, client=client)


def _model(chosen: ChosenModel, settings: Settings) -> LanguageModel:
    if chosen.provider == GEMINI:
        return GeminiModel(
            api_key=_secret(settings.gemini_api_key) or "",
            model=chosen.model,
            base_url=settings.gemini_base_url,
            timeout=settings.ai_timeout,
        )
    return OpenRouterModel(
        api_key=_secret(settings.openrouter_api_key),
        model=chosen.model,
        base_url=settings.openrouter_base_url,
        timeout=settings.ai_timeout,
    )


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value is not None else None


def _recognizer(settings: Settings) -> Recognizer:
    # Only the image of the vision worker has the packages of the models.
    from imago.ai.offline.vision.recognizer import OfflineRecognizer

    return OfflineRecognizer(
        model_dir=settings.model_dir,
        min_confidence=settings.vision_min_confidence,
        detector=settings.vision_detector != "none",
        moderation=settings.moderation == "score",
    )
