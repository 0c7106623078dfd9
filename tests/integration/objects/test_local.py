"""Objects in local files, and the tokens of their signed URLs."""

from datetime import timedelta
from pathlib import Path

import pytest

from imago.core.times import utc_now
from imago.objects.disposition import content_disposition
from imago.objects.local import LocalStore
from imago.objects.signing import make_token, read_token
from imago.objects.store import StorageFull, UrlRequest


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    local = LocalStore(tmp_path / "objects", url_secret="s")
    local.prepare()
    return local


def files(store: LocalStore) -> list[Path]:
    return [path for path in store.path("x").parent.rglob("*") if path.is_file()]


async def test_deletion_also_removes_temporary_files_and_empty_directories(store: LocalStore, tmp_path: Path) -> None:
    source = tmp_path / "thumb"
    source.write_bytes(b"t")
    for key in ("c/i/original", "c/i/thumbnail"):
        await store.put(key, source, content_type="image/png")
    # A process that was killed during a write leaves this behind.
    left = store._temporary("c/i/original")
    left.write_bytes(b"half")
    other = store._temporary("c/i/originals")
    other.write_bytes(b"half")
    await store.delete("c/i/original")
    assert (left.exists(), other.exists()) == (False, True)
    await store.delete("c/i/thumbnail")
    assert not store.path("c").exists()


@pytest.mark.parametrize(
    "key", ["", "../x", "a/../b", "/etc/passwd", "a//b", ".incoming/x", "a/.hidden", "a\0b", "a b"]
)
def test_keys_that_could_leave_the_directory_are_rejected(store: LocalStore, key: str) -> None:
    with pytest.raises(ValueError):
        store.path(key)


async def test_a_full_disk_is_reported_as_full(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every write to /dev/full fails with ENOSPC.
    def full(_path: Path) -> object:
        return Path("/dev/full").open("wb", buffering=0)

    monkeypatch.setattr("imago.objects.local._open_new", full)
    with pytest.raises(StorageFull):
        async with store.create("a/original") as writer:
            await writer.write(b"x" * 2_000_000)
    assert files(store) == []


def test_a_token_is_valid_for_its_request_until_it_expires() -> None:
    request = UrlRequest(
        "a/b", "image/png", "né.png", "inline", utc_now().replace(microsecond=0) + timedelta(minutes=1)
    )
    token = make_token(request, "secret")
    assert read_token(token, "secret") == request
    assert read_token(token, "other secret") is None
    assert read_token(token, "secret", now=request.expires_at) is None
    for index in range(len(token)):
        for char in ("A", "B", "."):
            wrong = token[:index] + char + token[index + 1 :]
            assert wrong == token or read_token(wrong, "secret") is None, index
    for wrong in ("", ".", "a.b", token + "=", token + "A", token[:-1]):
        assert read_token(wrong, "secret") is None


@pytest.mark.parametrize(
    "name", ['a"; filename=evil.exe', "a\r\nSet-Cookie: x", "été.jpg", "\u202egpj.exe", "", "a;b", "%00"]
)
def test_file_names_cannot_inject_into_the_header(name: str) -> None:
    value = content_disposition("attachment", name)
    assert value.isascii()
    assert "\r" not in value
    assert "\n" not in value
    assert value.count('"') == 2
    assert value.startswith('attachment; filename="')
