"""AI providers."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from imago.core.ai_usage.model import BudgetPolicy, Price
from imago.settings.base import CommaList, HeaderSecret, HttpUrl, LowerCase, Seconds, SettingsGroup

# The offline models look at squares of 224 and 416 pixels. A picture of twice the area costs 20 ms of CPU more.
_RECOGNITION_SIDE = 640


class AiSettings(SettingsGroup):
    """Providers, their models, and budgets."""

    ai_provider: Annotated[Literal["gemini", "openrouter", "offline"] | None, LowerCase] = None
    ai_fallback: CommaList = ()
    """Providers tried in this order when the first one fails."""
    ai_model: str | None = None
    """A model of the provider; required for `openrouter`."""
    ai_timeout: Seconds = 60.0
    """Time limit for one response of a provider."""
    ai_budget_policy: Annotated[BudgetPolicy, LowerCase] = BudgetPolicy.HOLD
    """What happens when a client's AI calls of the month are used up, unless the client has its own policy."""
    ai_prices: dict[str, Price] = Field(default_factory=dict)
    """Prices by model name, in US dollars per million tokens: `{"some-model": {"input": 0.3, "output": 2.5}}`."""
    ai_image_side: int = Field(1024, ge=64, le=4096)
    """The longest side in pixels of images that providers describe; models use no higher resolution."""
    ai_page_side: int = Field(2048, ge=64, le=4096)
    """The same for pages whose text they read."""
    ai_calls_kept_days: int = Field(90, ge=1, le=36_600)
    """How long records of single calls are kept; monthly totals are kept forever."""
    gemini_api_key: HeaderSecret | None = None
    gemini_base_url: HttpUrl | None = None
    openrouter_api_key: HeaderSecret | None = None
    openrouter_base_url: HttpUrl = "https://openrouter.ai/api/v1"
    vision_min_confidence: float = Field(0.35, ge=0, le=1, allow_inf_nan=False)
    """Below this the offline provider says less instead of guessing."""
    vision_detector: Annotated[Literal["nanodet", "none"], LowerCase] = "nanodet"
    """Whether the offline recognition looks for people and objects, if the detector is installed."""
    search_by_meaning: bool | None = None
    """Whether searches find images by meaning, too; unset: if the extra `meaning` is installed."""
    moderation: Annotated[Literal["off", "score"], LowerCase] = "off"
    """Whether the offline recognition scores how likely images are not safe for work."""
    model_dir: Path | None = None
    """Directory of the offline vision models and of the file of places; unset: the user's cache directory."""

    @property
    def vision_side(self) -> int:
        """The longest side in pixels of the picture that is recognized, and that the provider describes."""
        return min(self.ai_image_side, _RECOGNITION_SIDE) if self.provider == "offline" else self.ai_image_side

    @property
    def provider(self) -> str:
        """The AI provider in use: the one configured, else Gemini if it has a key, else the offline one."""
        return self.ai_provider or ("gemini" if self.gemini_api_key else "offline")
