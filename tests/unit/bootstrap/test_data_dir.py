"""The data directory of `imago dev`."""

import stat
from pathlib import Path

import pytest

from imago.bootstrap.data_dir import SECRETS, ensure_secrets, locked, read_json
from imago.runtime.startup import StartupError


def test_a_second_instance_cannot_lock_the_directory(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(StartupError, match="in use by another"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_secrets_are_generated_once_and_readable_only_by_their_owner(tmp_path: Path) -> None:
    first = ensure_secrets(tmp_path)
    assert ensure_secrets(tmp_path) == first == read_json(tmp_path / SECRETS)
    assert stat.S_IMODE((tmp_path / SECRETS).stat().st_mode) == 0o600


def test_damaged_secrets_are_an_error_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / SECRETS).write_text("{")
    with pytest.raises(StartupError, match="cannot read"):
        ensure_secrets(tmp_path)
    assert (tmp_path / SECRETS).read_text() == "{"
