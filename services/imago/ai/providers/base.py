"""Models: what one is to the rest, and which ones the settings name."""

import re
from dataclasses import dataclass
from typing import Protocol

from imago.ai.prompts import Prompt
from imago.core.ai_usage.model import TokenUsage

GEMINI = "gemini"
OPENROUTER = "openrouter"
OFFLINE = "offline"

# The provider's own name for its present small model; other providers have no such name, so theirs must be set.
DEFAULT_MODELS = {GEMINI: "gemini-flash-latest"}

_MODEL_NAME = re.compile(r"^[A-Za-z0-9][\w./:@+-]{0,99}$")

# Beyond this a count of tokens is a mistake.
_MAX_TOKENS = 10**9


@dataclass(frozen=True)
class Reply:
    """A model's text as it came, and what it took."""

    text: str
    usage: TokenUsage


class Model(Protocol):
    """A model at a provider."""

    @property
    def provider(self) -> str:
        """The provider's name as settings and metrics know it."""
        ...

    @property
    def model(self) -> str:
        """The model's name at the provider."""
        ...

    async def ask(self, prompt: Prompt, *, timeout: float) -> Reply:
        """Have the conversation gone on with, within so many seconds; raise CallFailed."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


def model_name(reported: object, *, asked: str) -> str:
    """Return the model that answered as the provider names it, or the one asked where that is no name."""
    return reported if isinstance(reported, str) and _MODEL_NAME.match(reported) else asked


def tokens(reported: object) -> int:
    """Return a reported count of tokens; 0 for what is none."""
    if isinstance(reported, bool) or not isinstance(reported, int) or not 0 <= reported <= _MAX_TOKENS:
        return 0
    return reported
