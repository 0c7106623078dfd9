"""Build the providers that the settings name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from yarl import URL

from imago.ai.budgeted_provider import BudgetedProvider
from imago.ai.offline.text_provider import OfflineTextProvider
from imago.ai.offline.vision_provider import OfflineVisionProvider
from imago.ai.provider_client import ProviderClient
from imago.ai.providers.base import DEFAULT_MODELS, GEMINI, OFFLINE, OPENROUTER, LanguageModel
from imago.ai.providers.gemini import GeminiModel
from imago.ai.providers.openrouter import OpenRouterModel, is_openrouter
from imago.core.ai_usage.model import Breaker, CallContext, CallObserver, Ledger
from imago.core.ai_usage.text_tasks import TextProvider
from imago.core.images.vision import OcrProvider, VisionProvider
from imago.settings import Settings
from imago.startup import StartupError


@dataclass(frozen=True)
class Providers:
    """Functions that return the providers for a call's context.

    `ocr` is None without an AI service, because Tesseract reads text offline.
    """

    vision: Callable[[CallContext], VisionProvider]
    texts: Callable[[CallContext], TextProvider]
    ocr: Callable[[CallContext], OcrProvider] | None
    client: ProviderClient | None = None

    async def close(self) -> None:
        """Close connections."""
        if self.client is not None:
            await self.client.close()


def build_providers(settings: Settings, *, ledger: Ledger, breaker: Breaker, observer: CallObserver) -> Providers:
    """Build the providers; raise StartupError."""
    offline_vision = OfflineVisionProvider(model_dir=settings.model_dir, min_confidence=settings.vision_min_confidence)
    offline_texts = OfflineTextProvider()
    chain = _provider_chain(settings)
    models = [_model(entry, settings, first=index == 0) for index, entry in enumerate(chain) if entry != OFFLINE]
    if not models:
        if settings.ocr_fallback == "ai":
            raise StartupError("OCR_FALLBACK=ai needs AI_PROVIDER=gemini or openrouter")
        return Providers(vision=lambda _: offline_vision, texts=lambda _: offline_texts, ocr=None)
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
        fall_back_offline=chain[-1] == OFFLINE,
    )
    return Providers(vision=budgeted, texts=budgeted, ocr=budgeted, client=client)


def _provider_chain(settings: Settings) -> list[str]:
    """Return the provider and its fallbacks, each as `provider` or `provider:model`."""
    chain = [settings.provider, *settings.ai_fallback]
    if chain[0] == OFFLINE and len(chain) > 1:
        raise StartupError("AI_FALLBACK: the offline provider doesn't fail, so it can't have a fallback")
    if OFFLINE in chain[:-1]:
        raise StartupError("AI_FALLBACK: offline must be the last one")
    return chain


def _model(entry: str, settings: Settings, *, first: bool) -> LanguageModel:
    """Build the model of `provider` or `provider:model`. AI_MODEL is the model of the first provider."""
    provider, _, named = entry.partition(":")
    setting = "AI_PROVIDER" if first else "AI_FALLBACK"
    model = named or (settings.ai_model if first else None) or DEFAULT_MODELS.get(provider)
    if provider == GEMINI:
        return _gemini_model(model or DEFAULT_MODELS[GEMINI], settings, setting=setting)
    if provider == OPENROUTER:
        if model is None:
            raise StartupError(
                f"{setting}: openrouter needs {'AI_MODEL' if first else 'a model, as in openrouter:some/model'}"
            )
        return _openrouter_model(model, settings, setting=setting)
    raise StartupError(f"{setting}: {provider!r} is not a provider; use gemini, openrouter or offline")


def _gemini_model(model: str, settings: Settings, *, setting: str) -> GeminiModel:
    if settings.gemini_api_key is None:
        raise StartupError(f"{setting}: gemini needs GEMINI_API_KEY")
    return GeminiModel(
        api_key=settings.gemini_api_key.get_secret_value(),
        model=model,
        base_url=settings.gemini_base_url,
        timeout=settings.ai_timeout,
    )


def _openrouter_model(model: str, settings: Settings, *, setting: str) -> OpenRouterModel:
    key = settings.openrouter_api_key
    try:
        url = URL(settings.openrouter_base_url)
    except ValueError:
        raise StartupError("OPENROUTER_BASE_URL is not a valid URL") from None
    if key is None and is_openrouter(url):
        raise StartupError(
            f"{setting}: openrouter needs OPENROUTER_API_KEY, or the OPENROUTER_BASE_URL of another server"
        )
    return OpenRouterModel(
        api_key=key.get_secret_value() if key else None,
        model=model,
        base_url=settings.openrouter_base_url,
        timeout=settings.ai_timeout,
    )
