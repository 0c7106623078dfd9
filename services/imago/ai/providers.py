"""Builds the vision provider that the settings name."""

from imago.ai.offline import OfflineProvider
from imago.domain.vision import VisionProvider
from imago.settings import Settings


class ProviderUnavailable(Exception):
    """The settings name a provider that this version doesn't have; the text is one line for a person."""


def build_vision_provider(settings: Settings) -> VisionProvider:
    """Build the provider; raise ProviderUnavailable."""
    if settings.provider != "offline":
        raise ProviderUnavailable(f"AI_PROVIDER={settings.provider} is not in this version; use AI_PROVIDER=offline")
    return OfflineProvider(model_dir=settings.model_dir, min_confidence=settings.vision_min_confidence)
