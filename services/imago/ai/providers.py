"""Builds the providers that the settings name."""

from imago.ai.offline import OfflineProvider
from imago.ai.offline_texts import OfflineTextProvider
from imago.domain.assistance import TextProvider
from imago.domain.vision import VisionProvider
from imago.settings import Settings


class ProviderUnavailable(Exception):
    """The settings name a provider that this version doesn't have; the text is one line for a person."""


def build_vision_provider(settings: Settings) -> VisionProvider:
    """Build the provider; raise ProviderUnavailable."""
    _refuse_all_but_offline(settings)
    return OfflineProvider(model_dir=settings.model_dir, min_confidence=settings.vision_min_confidence)


def build_text_provider(settings: Settings) -> TextProvider:
    """Build the provider of summaries and drafts; raise ProviderUnavailable."""
    _refuse_all_but_offline(settings)
    return OfflineTextProvider()


def _refuse_all_but_offline(settings: Settings) -> None:
    if settings.provider != "offline":
        raise ProviderUnavailable(f"AI_PROVIDER={settings.provider} is not in this version; use AI_PROVIDER=offline")
