"""Settings of AI providers that are refused at startup."""

import pytest

from imago.ai.provider_chain import ChosenModel, provider_chain
from imago.runtime.startup import StartupError
from imago.settings import Settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ai_provider": "gemini"}, "AI_PROVIDER: gemini needs GEMINI_API_KEY"),
        ({"ai_provider": "openrouter"}, "AI_PROVIDER: openrouter needs AI_MODEL"),
        ({"ai_provider": "openrouter", "ai_model": "a/b"}, "AI_PROVIDER: openrouter needs OPENROUTER_API_KEY"),
        ({"gemini_api_key": "k", "ai_fallback": ("llama",)}, "AI_FALLBACK: 'llama' is not a provider"),
        ({"gemini_api_key": "k", "ai_fallback": ("openrouter",)}, "AI_FALLBACK: openrouter needs a model"),
        ({"gemini_api_key": "k", "ai_fallback": ("offline", "gemini")}, "AI_FALLBACK: offline must be the last one"),
        ({"ai_fallback": ("gemini",)}, "AI_FALLBACK: the offline provider doesn't fail"),
        ({"ocr_fallback": "ai"}, "OCR_FALLBACK=ai needs AI_PROVIDER"),
    ],
)
def test_what_a_provider_lacks_is_one_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(StartupError, match=f"^{message}"):
        provider_chain(Settings(**values))  # type: ignore[arg-type]


def test_the_chain_has_the_models_of_the_settings_or_of_the_provider() -> None:
    settings = Settings(gemini_api_key="k", openrouter_api_key="k", ai_fallback=("openrouter:some/model", "offline"))
    assert [chosen.provider for chosen in provider_chain(settings)] == ["gemini", "openrouter", "offline"]
    assert provider_chain(settings)[1] == ChosenModel("openrouter", "some/model")
