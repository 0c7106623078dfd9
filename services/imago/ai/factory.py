"""Builds the providers that the settings name."""

from collections.abc import Callable
from dataclasses import dataclass

from yarl import URL

from imago.ai.budgeted_provider import Assistant
from imago.ai.offline.texts import OfflineTextProvider
from imago.ai.offline.vision import OfflineProvider
from imago.ai.provider_client import Caller
from imago.ai.providers.base import DEFAULT_MODELS, GEMINI, OFFLINE, OPENROUTER, Model
from imago.ai.providers.gemini import GeminiModel
from imago.ai.providers.openrouter import OpenRouterModel, is_openrouter
from imago.core.ai_usage.model import Breaker, CallContext, CallObserver, Ledger
from imago.core.ai_usage.text_tasks import TextProvider
from imago.core.images.vision import PageReader, VisionProvider
from imago.settings import Settings
from imago.startup import StartupError


@dataclass(frozen=True)
class Providers:
    """What describes images, reads pages and works on texts; each is asked for with whom and what it is for.

    There is no `reader` offline: reading is Tesseract's work.
    """

    vision: Callable[[CallContext], VisionProvider]
    texts: Callable[[CallContext], TextProvider]
    reader: Callable[[CallContext], PageReader] | None
    caller: Caller | None = None

    async def close(self) -> None:
        """Close connections."""
        if self.caller is not None:
            await self.caller.close()


def build_providers(settings: Settings, *, ledger: Ledger, breaker: Breaker, observer: CallObserver) -> Providers:
    """Build the providers; raise StartupError."""
    offline_vision = OfflineProvider(model_dir=settings.model_dir, min_confidence=settings.vision_min_confidence)
    offline_texts = OfflineTextProvider()
    chain = [settings.provider, *settings.ai_fallback]
    if OFFLINE in chain[:-1]:
        if len(chain) > 1 and chain[0] == OFFLINE:
            raise StartupError("AI_FALLBACK: the offline provider doesn't fail, so nothing comes after it")
        raise StartupError("AI_FALLBACK: offline must be the last one")
    models = [_model(entry, settings, first=index == 0) for index, entry in enumerate(chain) if entry != OFFLINE]
    if not models:
        if settings.ocr_fallback == "ai":
            raise StartupError("OCR_FALLBACK=ai needs AI_PROVIDER=gemini or openrouter")
        return Providers(vision=lambda _: offline_vision, texts=lambda _: offline_texts, reader=None)
    caller = Caller(
        models,
        ledger=ledger,
        breaker=breaker,
        observer=observer,
        prices=settings.ai_prices,
        timeout=settings.ai_timeout,
    )

    def assistant(context: CallContext) -> Assistant:
        return Assistant(
            models[0].provider,
            caller,
            context,
            observer=observer,
            offline_vision=offline_vision,
            offline_texts=offline_texts,
            fall_back_offline=chain[-1] == OFFLINE,
        )

    return Providers(vision=assistant, texts=assistant, reader=assistant, caller=caller)


def _model(entry: str, settings: Settings, *, first: bool) -> Model:
    """Build a model of `provider` or `provider:model`; AI_MODEL is the first provider's."""
    provider, _, named = entry.partition(":")
    where = "AI_PROVIDER" if first else "AI_FALLBACK"
    model = named or (settings.ai_model if first else None) or DEFAULT_MODELS.get(provider)
    if provider == GEMINI:
        if settings.gemini_api_key is None:
            raise StartupError(f"{where}: gemini needs GEMINI_API_KEY")
        return GeminiModel(
            api_key=settings.gemini_api_key.get_secret_value(),
            model=model or DEFAULT_MODELS[GEMINI],
            base_url=settings.gemini_base_url,
            timeout=settings.ai_timeout,
        )
    if provider == OPENROUTER:
        key = settings.openrouter_api_key
        if key is None and is_openrouter(URL(settings.openrouter_base_url)):
            needed = "OPENROUTER_API_KEY, or an OPENROUTER_BASE_URL elsewhere"
            raise StartupError(f"{where}: openrouter needs {needed}")
        if model is None:
            needed = "AI_MODEL" if first else "a model, as openrouter:some/model"
            raise StartupError(f"{where}: openrouter needs {needed}")
        return OpenRouterModel(
            api_key=key.get_secret_value() if key else None,
            model=model,
            base_url=settings.openrouter_base_url,
            timeout=settings.ai_timeout,
        )
    raise StartupError(f"{where}: {provider!r} is not a provider; use gemini, openrouter or offline")
