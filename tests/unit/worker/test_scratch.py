"""Temporary directories of attempts: empty, exclusive, reused after success and removed in the end."""

import tempfile
from pathlib import Path

import pytest

from imago.worker.scratch import ScratchDirectories


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScratchDirectories:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return ScratchDirectories()


def test_a_reused_directory_is_empty(scratch: ScratchDirectories, tmp_path: Path) -> None:
    with scratch.directory() as first:
        (first / "page").write_text("someone's")
    with scratch.directory() as reused:
        assert reused == first
        assert list(reused.iterdir()) == []
        with scratch.directory() as concurrent:
            assert concurrent != reused
    scratch.close()
    assert list(tmp_path.iterdir()) == []


def test_the_directory_of_a_failed_attempt_is_not_reused(scratch: ScratchDirectories, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bad"), scratch.directory():
        raise ValueError("bad")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_emptied_is_removed_without_an_error(
    scratch: ScratchDirectories, tmp_path: Path
) -> None:
    with scratch.directory() as directory:
        (directory / "inner").mkdir()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_the_system_removed_is_replaced(scratch: ScratchDirectories) -> None:
    with scratch.directory() as first:
        pass
    first.rmdir()
    with scratch.directory() as replacement:
        assert replacement.is_dir()


def test_a_link_in_place_of_a_removed_directory_is_not_followed(
    scratch: ScratchDirectories, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with scratch.directory() as first:
        pass
    first.rmdir()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    first.symlink_to(elsewhere)
    with scratch.directory() as replacement:
        assert replacement.resolve() != elsewhere.resolve()
