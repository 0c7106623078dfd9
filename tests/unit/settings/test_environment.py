"""`.env` in the working directory, variables without a value, and misspelt names."""

from pathlib import Path

import pytest

from imago.runtime.startup import StartupError
from imago.settings import Settings, load_settings
from imago.settings.environment import _distance, load_environment, read_env_file, unknown_names


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".env"


def names() -> list[str]:
    return unknown_names(Settings.model_fields)


def test_the_environment_wins_over_the_file_unless_it_is_empty(env_file: Path) -> None:
    env_file.write_text("PORT=9001\nLOG_LEVEL=warning\nHOST=0.0.0.0\n")
    environment = {"PORT": "9002", "LOG_LEVEL": "", "OCR_ENGINE": "  "}
    load_environment(Settings.model_fields, environment)
    assert environment == {"PORT": "9002", "LOG_LEVEL": "warning", "HOST": "0.0.0.0"}


@pytest.mark.parametrize(("set_name", "file_name"), [("PORT", "port"), ("port", "PORT")])
def test_the_environment_wins_in_small_letters_too(env_file: Path, set_name: str, file_name: str) -> None:
    env_file.write_text(f"{file_name}=9001\n")
    environment = {set_name: "9002"}
    load_environment(Settings.model_fields, environment)
    assert environment == {set_name: "9002"}


def test_values_are_taken_as_they_are_written(env_file: Path) -> None:
    env_file.write_text("JWT_SECRET_KEY=ab${A}cd\nA=x\nNATS_PASSWORD='$HOME'\n")
    environment = {"A": "y"}
    load_environment(Settings.model_fields, environment)
    assert environment == {"A": "y", "JWT_SECRET_KEY": "ab${A}cd", "NATS_PASSWORD": "$HOME"}


def test_the_file_sets_nothing_but_settings_and_variables_of_libraries(env_file: Path) -> None:
    used = {"AWS_PROFILE": "a", "OTEL_SERVICE_NAME": "b", "OPERATOR_API_URL": "c", "HTTPS_PROXY": "d"}
    unused = ("LD_PRELOAD", "PATH", "PYTHONPATH", "IMAGO_URL", "IMAGO_API_KEY", "ANYTHING")
    env_file.write_text(
        "".join(f"{name}={value}\n" for name, value in [*used.items(), *dict.fromkeys(unused, "x").items()])
    )
    environment: dict[str, str] = {}
    load_environment(Settings.model_fields, environment)
    assert environment == used
    assert names() == [f".env: {name} is not a setting of Imago and has no effect" for name in unused]


def test_empty_variables_of_other_programs_stay(env_file: Path) -> None:
    environment = {"NO_PROXY": "", "LS_COLORS": "", "PORT": ""}
    load_environment(Settings.model_fields, environment)
    assert environment == {"NO_PROXY": "", "LS_COLORS": ""}


def test_the_settings_of_the_file_are_read(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {})
    env_file.write_text("PORT=9001 # a comment\nexport S3_PREFIX='a b'\nAPI_KEY_PEPPER=\n")
    settings = load_settings()
    assert (settings.port, settings.s3_prefix, settings.api_key_pepper) == (9001, "a b", None)


def test_a_copy_of_the_example_changes_nothing(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file.write_text((Path(__file__).parents[3] / ".env.example").read_text())
    monkeypatch.setattr("os.environ", {})
    assert load_settings() == Settings()
    assert names() == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PORT 8000\n", r"\.env: line 1 is not NAME=value"),
        (b"HOST=a\n\nPORT\n", r"\.env: line 3 is not NAME=value"),
        (b'HOST="never closed\n', r"\.env: line 1 is not NAME=value"),
        (b"HOST=\xff\xfe\n", r"\.env is not UTF-8 text"),
        (b"HOST=a\0b\n", "contains a NUL byte"),
    ],
)
def test_a_file_that_is_not_understood_is_an_error(env_file: Path, content: bytes, message: str) -> None:
    env_file.write_bytes(content)
    with pytest.raises(StartupError, match=message):
        load_environment(Settings.model_fields, {})


def test_a_byte_order_mark_and_a_virtual_environment_of_this_name_do_no_harm(env_file: Path) -> None:
    env_file.write_bytes(b"\xef\xbb\xbfPORT=9001\r\n")
    assert read_env_file(env_file) == {"PORT": "9001"}
    env_file.unlink()
    env_file.mkdir()
    assert read_env_file(env_file) == {}


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("AI_PROVDER", "AI_PROVIDER"),
        ("AI_PROVIDR", "AI_PROVIDER"),
        ("ai_provdier", "AI_PROVIDER"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("MAX_UPLOAD_SIZE", "MAX_UPLOAD_SIZE_MB"),
        ("S3_ACCESS_KEY_ID", "S3_ACCESS_KEY"),
        ("JWT_SECRET", "JWT_SECRET_KEY"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("NATS_URLS", "NATS_URL"),
        ("IMAGO_LOG_LEVEL", "LOG_LEVEL"),
        ("OTEL_EXPORTER_OTLP_ENDPIONT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ],
)
def test_a_misspelt_setting_is_an_error_in_the_file_and_a_warning_in_the_environment(
    env_file: Path, monkeypatch: pytest.MonkeyPatch, typo: str, meant: str
) -> None:
    env_file.write_text(f"{typo}=1\n")
    with pytest.raises(StartupError, match=rf"\.env: {typo} is not a setting; did you mean {meant}\?"):
        names()
    env_file.unlink()
    monkeypatch.setenv(typo, "1")
    assert names() == [f"the environment variable {typo} is not a setting; did you mean {meant}?"]


def test_every_setting_with_two_swapped_letters_is_recognized(env_file: Path) -> None:
    for name in Settings.model_fields:
        swapped = name.upper()[:-2] + name.upper()[-1] + name.upper()[-2]
        if swapped.lower() in Settings.model_fields or swapped == name.upper():
            continue
        env_file.write_text(f"{swapped}=1\n")
        with pytest.raises(StartupError, match=f"did you mean {name.upper()}"):
            names()


def test_warnings_are_sorted(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"PROT": "1", "HSOT": "1"})
    assert [line.split()[3] for line in names()] == ["HSOT", "PROT"]


def test_variables_of_services_are_compared_with_few_settings_in_full(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    def distance(one: str, two: str) -> int:
        compared.append(one)
        return _distance(one, two)

    monkeypatch.setattr("imago.settings.environment._distance", distance)
    monkeypatch.setattr("os.environ", {f"SERVICE_{number}_PORT_8000_TCP_ADDR": "1" for number in range(1000)})
    assert names() == []
    assert len(compared) < 1000


def test_variables_of_other_programs_are_no_misspelt_settings(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = (
        *("HOSTNAME", "HOME", "PIP_TIMEOUT", "GOOGLE_API_KEY", "OPENAI_API_KEY", "AWS_REGION", "AWS_CA_BUNDLE"),
        *("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_SERVICE_NAME", "IMAGO_API_KEY", "IMAGO_URL", "SECRET_KEY", "DEBUGGER"),
        *("KUBERNETES_SERVICE_HOST", "NATS_SERVICE_HOST", "HTTPS_PROXY", "REDIS_URL", "LOG_FORMAT", "NO_COLOR"),
    )
    for name in others:
        monkeypatch.setenv(name, "1")
    assert names() == []
    env_file.write_text("COMPOSE_PROJECT_NAME=imago\nREDIS_URL=redis://x\n")
    assert names() == [".env: REDIS_URL is not a setting of Imago and has no effect"]
