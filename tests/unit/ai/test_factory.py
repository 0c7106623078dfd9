"""Settings of AI providers that are refused at startup."""

from unittest.mock import Mock

import pytest

from imago.ai.factory import build_providers
from imago.settings import Settings
from imago.startup import StartupError


@pytest.mark.parametrize("url", ["http://host:port/v1", "http://[::1"])
def test_a_malformed_url_of_a_provider_is_named(url: str) -> None:
    settings = Settings(ai_provider="openrouter", ai_model="some/model", openrouter_base_url=url)
    with pytest.raises(StartupError, match="OPENROUTER_BASE_URL is not a valid URL"):
        build_providers(settings, ledger=Mock(), breaker=Mock(), observer=Mock())
