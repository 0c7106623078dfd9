"""The protocol of a model at a provider, and the names of the providers."""

import re
from dataclasses import dataclass
from typing import Protocol

from imago.ai.prompts import Prompt
from imago.core.ai_usage.model import TokenUsage

GEMINI = "gemini"
OPENROUTER = "openrouter"
OFFLINE = "offline"

# Google's alias of its current small model. Other providers have no such alias, so their model must be set.
DEFAULT_MODELS = {GEMINI: "gemini-flash-latest"}

_MODEL_NAME = re.compile(r"^[A-Za-z0-9][\w./:@+-]{0,99}$")

# A larger reported number of tokens is an error.
_MAX_TOKENS = 10**9


@dataclass(frozen=True)
class Reply:
    """A model's unvalidated text, and the tokens it used."""

    text: str
    usage: TokenUsage


class LanguageModel(Protocol):
    """A model at a provider."""

    @property
    def provider(self) -> str:
        """The provider's name in settings and metrics."""
        ...

    @property
    def model(self) -> str:
        """The model's name at the provider."""
        ...

    async def generate(self, prompt: Prompt, *, timeout: float) -> Reply:
        """Return the model's reply to a prompt within `timeout` seconds; raise CallFailed."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


def reported_model(name: object, *, default: str) -> str:
    """Return the model name that a provider reported, or the default if it is not a valid name."""
    return name if isinstance(name, str) and _MODEL_NAME.match(name) else default


def reported_tokens(count: object) -> int:
    """Return the number of tokens that a provider reported, or 0 if it is not a valid number."""
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= _MAX_TOKENS:
        return 0
    return count
