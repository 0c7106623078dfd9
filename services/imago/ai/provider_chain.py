"""Which providers and models the settings name, checked without importing the providers."""

from dataclasses import dataclass

from yarl import URL

from imago.ai.providers.base import DEFAULT_MODELS, GEMINI, OFFLINE, OPENROUTER
from imago.runtime.startup import StartupError
from imago.settings import Settings


@dataclass(frozen=True)
class ChosenModel:
    """A provider and its model; the offline provider has none."""

    provider: str
    model: str


def provider_chain(settings: Settings) -> tuple[ChosenModel, ...]:
    """Return the provider and its fallbacks in order; raise StartupError if a setting is missing or wrong."""
    names = [settings.provider, *settings.ai_fallback]
    if names[0] == OFFLINE and len(names) > 1:
        raise StartupError("AI_FALLBACK: the offline provider doesn't fail, so it can't have a fallback")
    if OFFLINE in names[:-1]:
        raise StartupError("AI_FALLBACK: offline must be the last one")
    if names[0] == OFFLINE and settings.ocr_fallback == "ai":
        raise StartupError("OCR_FALLBACK=ai needs AI_PROVIDER=gemini or openrouter")
    return tuple(_chosen(name, settings, first=index == 0) for index, name in enumerate(names))


def is_openrouter(url: URL) -> bool:
    """Return whether the URL is one of OpenRouter itself."""
    host = url.host or ""
    return host == "openrouter.ai" or host.endswith(".openrouter.ai")


def _chosen(entry: str, settings: Settings, *, first: bool) -> ChosenModel:
    """Check `provider` or `provider:model`. AI_MODEL is the model of the first provider."""
    provider, _, named = entry.partition(":")
    setting = "AI_PROVIDER" if first else "AI_FALLBACK"
    model = named or (settings.ai_model if first else None) or DEFAULT_MODELS.get(provider)
    if provider == OFFLINE:
        return ChosenModel(OFFLINE, "")
    if provider not in (GEMINI, OPENROUTER):
        raise StartupError(f"{setting}: {provider!r} is not a provider; use gemini, openrouter or offline")
    if provider == GEMINI and settings.gemini_api_key is None:
        raise StartupError(f"{setting}: gemini needs GEMINI_API_KEY")
    if model is None:
        raise StartupError(
            f"{setting}: openrouter needs {'AI_MODEL' if first else 'a model, as in openrouter:some/model'}"
        )
    if provider == OPENROUTER and settings.openrouter_api_key is None and _is_openrouter_itself(settings):
        raise StartupError(
            f"{setting}: openrouter needs OPENROUTER_API_KEY, or the OPENROUTER_BASE_URL of another server"
        )
    return ChosenModel(provider, model)


def _is_openrouter_itself(settings: Settings) -> bool:
    try:
        return is_openrouter(URL(settings.openrouter_base_url))
    except ValueError:
        raise StartupError("OPENROUTER_BASE_URL is not a valid URL") from None
