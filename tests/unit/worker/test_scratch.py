"""Folders of tries: empty, one's own, used again unless something went wrong, and gone in the end."""

import tempfile
from pathlib import Path

import pytest

from imago.worker.scratch import Scratch


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scratch:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Scratch()


def test_a_folder_comes_again_without_what_was_left_in_it(scratch: Scratch, tmp_path: Path) -> None:
    with scratch.folder() as first:
        (first / "page").write_text("someone's")
    with scratch.folder() as again:
        assert again == first
        assert list(again.iterdir()) == []
        with scratch.folder() as beside:
            assert beside != again
    scratch.close()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_failure_is_not_used_again(scratch: Scratch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bad"), scratch.folder():
        raise ValueError("bad")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_emptied_is_removed_and_the_work_is_done_all_the_same(scratch: Scratch, tmp_path: Path) -> None:
    with scratch.folder() as folder:
        (folder / "inner").mkdir()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_the_system_cleaned_away_is_made_anew(scratch: Scratch) -> None:
    with scratch.folder() as first:
        pass
    first.rmdir()
    with scratch.folder() as again:
        assert again.is_dir()


def test_a_link_under_the_name_of_a_folder_that_was_cleaned_away_is_not_followed(
    scratch: Scratch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with scratch.folder() as first:
        pass
    first.rmdir()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    first.symlink_to(elsewhere)
    with scratch.folder() as again:
        assert again.resolve() != elsewhere.resolve()
