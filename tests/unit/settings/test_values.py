"""Every setting: a bad value is one line that names it, and a value that is accepted does not fail later."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from imago.ai.provider_chain import provider_chain
from imago.db.engine import Database
from imago.nats.connection import NatsConnection
from imago.objects.factory import build_store
from imago.runtime.startup import StartupError, bind
from imago.settings import Settings, load_settings

UNSET = ("", "   ", "\t\n")
BAD = (
    *("letters", "-1", "1e308", "9" * 30, "nan", "http://", "http://host:x", "://", "é☃", "a\nb", "[", "{}"),
    *("/no/such/file", "10.0.0.0/99", "*", "x" * 5000),
)


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
async def test_a_bad_value_is_one_line_that_names_the_setting(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for value in UNSET:
        monkeypatch.setenv(name.upper(), value)
        default = Settings.model_fields[name].get_default(call_default_factory=True)
        assert getattr(load_settings(), name) == default
    for value in BAD:
        monkeypatch.setenv(name.upper(), value)
        # What is accepted must not be a traceback later.
        refused = _refusal() or await _refusal_of_parts(load_settings())
        if refused is not None:
            assert name.upper() in refused or value in refused
            assert len(refused.splitlines()) == 1


def _refusal() -> str | None:
    try:
        load_settings()
    except StartupError as error:
        return str(error)
    return None


async def _refusal_of_parts(settings: Settings) -> str | None:
    """Build what processes build of their settings; return why they can't start."""
    try:
        provider_chain(settings)
        await Database.from_settings(settings).close()
        await (await build_store(settings.model_copy(update={"signed_url_secret": SecretStr("secret")}))).close()
        NatsConnection(settings, name="test")
        bind(settings.host, 0).close()
    except StartupError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"AI_PRICES": '{"some/model": {"input": "much"}}'}, "AI_PRICES: some/model.input: "),
        ({"AI_PRICES": '["some/model"]'}, "AI_PRICES: "),
        ({"CORS_ORIGINS": "https://app.example/path"}, "CORS_ORIGINS: an origin has no path"),
        ({"NATS_URL": "http://127.0.0.1:4222"}, "NATS_URL: must be a URL such as nats://host:port"),
        ({"NATS_URL": "nats://host:letters"}, "NATS_URL: must be a URL"),
        ({"S3_ENDPOINT_URL": "s3.example:9000"}, "S3_ENDPOINT_URL: must be a URL such as http://host:port"),
        ({"GEMINI_API_KEY": "clé"}, "GEMINI_API_KEY: must be ASCII"),
        ({"PROMETHEUS_MULTIPROC_DIR": "nowhere"}, "PROMETHEUS_MULTIPROC_DIR: there is no such directory"),
    ],
)
def test_the_line_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], message: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartupError) as error:
        load_settings()
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgres://host/imago", r"DATABASE_URL must begin with one of: postgresql\+asyncpg, sqlite\+aiosqlite"),
        ("postgresql+asyncpg://host:port/imago", "DATABASE_URL must begin with"),
        ("postgresql+asyncpg://host/imago?sslmode=require", "DATABASE_URL: asyncpg has no option 'sslmode'; use ssl"),
    ],
)
def test_a_database_url_that_the_driver_rejects_is_one_line(url: str, message: str) -> None:
    with pytest.raises(StartupError, match=message):
        Database(url)


@pytest.mark.parametrize(
    ("name", "value"), [("LOG_LEVEL", "DEBUG"), ("AI_PROVIDER", "Offline"), ("OCR_ENGINE", "TesserOCR")]
)
def test_names_of_choices_may_have_capitals(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert getattr(load_settings(), name.lower()) == value.lower()


def test_the_newline_of_a_mounted_key_is_removed_but_a_pepper_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_API_KEY", "key\n")
    monkeypatch.setenv("API_KEY_PEPPER", "pepper\n")
    settings = load_settings()
    assert settings.admin_api_key is not None
    assert settings.api_key_pepper is not None
    assert settings.admin_api_key.get_secret_value() == "key"
    assert settings.api_key_pepper.get_secret_value() == "pepper\n"
