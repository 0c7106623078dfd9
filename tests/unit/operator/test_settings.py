"""The operator's settings, from the environment."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from imago_operator.settings import OperatorSettings, load_operator_settings

REQUIRED = {
    "OPERATOR_API_KEY": "a secret of the tests",
    "OPERATOR_API_URL": "http://imago/",
    "OPERATOR_WATCH_NAMESPACES": "a, b",
}


def read(monkeypatch: pytest.MonkeyPatch, **more: str) -> OperatorSettings:
    for name, value in {**REQUIRED, **more}.items():
        monkeypatch.setenv(name, value)
    return OperatorSettings()


def test_settings_are_read_from_the_documented_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(
        monkeypatch, METRICS_PORT="9090", LOG_LEVEL="warning", HOST="0.0.0.0", OPERATOR_INSTALLATION="second"
    )
    assert (settings.watch_namespaces, settings.watches_all_namespaces) == (("a", "b"), False)
    assert (settings.api_url, settings.url) == ("http://imago", "http://imago")
    assert (settings.metrics_port, settings.log_level, settings.host) == (9090, "warning", "0.0.0.0")
    assert settings.installation == "second"
    public = read(monkeypatch, OPERATOR_PUBLIC_URL="https://images.example/")
    assert public.url == "https://images.example"


def test_an_asterisk_without_other_names_watches_all_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, OPERATOR_WATCH_NAMESPACES="*").watches_all_namespaces
    for wrong in ("*,a", " , "):
        with pytest.raises(ValidationError):
            read(monkeypatch, OPERATOR_WATCH_NAMESPACES=wrong)


def test_the_newline_of_a_mounted_key_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, OPERATOR_API_KEY="key\n").api_key.get_secret_value() == "key"
    for wrong in ("a\nb", "clé"):
        with pytest.raises(ValidationError):
            read(monkeypatch, OPERATOR_API_KEY=wrong)


def test_empty_settings_are_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.environ", {**os.environ, **REQUIRED, "OPERATOR_PUBLIC_URL": "  ", "METRICS_PORT": " "})
    settings, _ = load_operator_settings()
    assert (settings.public_url, settings.metrics_port) == (None, None)


def test_dedicated_lanes_require_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="OPERATOR_DEDICATED_TEMPLATES"):
        read(monkeypatch, OPERATOR_DEDICATED_ENABLED="true")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"OPERATOR_API_URL": ""}, "OPERATOR_API_URL"),
        ({"OPERATOR_DEDICATED_ENABLED": "true", "OPERATOR_DEDICATED_TEMPLATES": "/nowhere"}, "no templates"),
        ({"KUBECONFIG": "/nowhere"}, "/nowhere"),
    ],
)
def test_invalid_settings_end_the_process_with_one_line_without_secrets(change: dict[str, Any], expected: str) -> None:
    environment = {"PATH": "/usr/bin:/bin", **REQUIRED, **change}
    done = subprocess.run(
        [sys.executable, "-m", "imago_operator.main"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert expected in done.stderr
    assert "a secret of the tests" not in done.stderr
