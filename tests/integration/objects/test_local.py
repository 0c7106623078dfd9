"""Objects in local files, and the tokens of their signed URLs."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from imago.core.times import utc_now
from imago.objects.disposition import content_disposition
from imago.objects.local import LocalStore
from imago.objects.signing import make_token, read_token
from imago.objects.store import ObjectMissing, StorageFull, UrlRequest


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


async def test_a_link_among_the_objects_is_never_followed(store: LocalStore, tmp_path: Path) -> None:
    source, outside = tmp_path / "image", tmp_path / "outside"
    source.write_bytes(b"image")
    outside.mkdir()
    (outside / "original").write_bytes(b"secret")
    await store.put("a/i/original", source, content_type="image/png")
    (store.path("a") / "linked").symlink_to(outside)
    (store.path("a") / "i" / "file").symlink_to(outside / "original")
    os.mkfifo(store.path("a") / "i" / "pipe")
    for key in ("a/linked/original", "a/i/file", "a/i/pipe"):
        assert await store.size(key) is None
        assert store.servable(key) is None
        with pytest.raises(ObjectMissing):
            await store.examine(key, lambda file: file.read())
        with pytest.raises(ObjectMissing):
            async with store.reader(key):
                pass
        with pytest.raises(ObjectMissing):
            async with store.local_copy(key):
                pass
    assert [info.key async for info in store.list()] == ["a/i/original"]
    with pytest.raises(ObjectMissing):
        await store.put("a/linked/other", source, content_type="image/png")
    async with store.create("a/linked/other") as writer:
        await writer.write(b"x")
        with pytest.raises(ObjectMissing):
            await writer.commit()
    for key in ("a/linked/original", "a/i/file"):
        await store.delete(key)
    assert [path.name for path in outside.iterdir()] == ["original"]
    assert store.servable("a/i/original") == store.path("a/i/original")


async def test_an_object_replaces_a_link_in_its_place_and_not_what_it_points_to(
    store: LocalStore, tmp_path: Path
) -> None:
    source, outside = tmp_path / "image", tmp_path / "outside"
    source.write_bytes(b"image")
    outside.write_bytes(b"secret")
    store.path("a").mkdir()
    store.path("a/original").symlink_to(outside)
    await store.put("a/original", source, content_type="image/png")
    assert await store.examine("a/original", lambda file: file.read()) == b"image"
    assert outside.read_bytes() == b"secret"
