"""Packages of the npm registry are used only if their digest is the expected one."""

import base64
import hashlib
from pathlib import Path

import pytest

from imago.runtime.npm import download_package
from imago.runtime.startup import StartupError


def test_a_package_is_downloaded_and_compared_with_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package.tgz").write_bytes(b"content")
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", tmp_path.as_uri() + "/")
    digest = base64.b64encode(hashlib.sha512(b"content").digest()).decode()
    assert download_package("package.tgz", sha512=digest) == b"content"
    with pytest.raises(StartupError, match="does not match its digest"):
        download_package("package.tgz", sha512="AAAA")


@pytest.mark.parametrize("registry", ["file:///nowhere", "http://127.0.0.1:9", "no URL"])
def test_a_registry_without_an_answer_is_one_line(registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", registry)
    with pytest.raises(StartupError, match=r"cannot download package\.tgz"):
        download_package("package.tgz", sha512="AAAA")
