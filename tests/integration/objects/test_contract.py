"""The contract of object stores, for local files and S3."""

import asyncio
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from imago.objects.store import ObjectMissing, ObjectStore

LARGE = 9 * 2**20


async def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [info.key async for info in store.list(prefix=prefix)]


async def put(store: ObjectStore, key: str, data: bytes, folder: Path) -> None:
    source = folder / "source"
    source.write_bytes(data)
    await store.put(key, source, content_type="image/png")


@pytest.mark.parametrize("size", [1, 3_000_000, LARGE, 20 * 2**20])
async def test_an_object_exists_only_after_its_commit(store: ObjectStore, size: int) -> None:
    data = os.urandom(1024) * (size // 1024) + b"z" * (size % 1024)
    async with store.create("a/b/original") as writer:
        for start in range(0, size, 256 * 1024):
            await writer.write(data[start : start + 256 * 1024])
        assert await store.size("a/b/original") is None
        await writer.commit()
    assert await store.size("a/b/original") == size
    async with store.local_copy("a/b/original") as path:
        assert path.read_bytes() == data
        assert path.stat().st_mode & 0o077 == 0


async def test_a_reader_seeks_and_reads_in_a_thread(store: ObjectStore, tmp_path: Path) -> None:
    data = os.urandom(700_000)
    await put(store, "a/original", data, tmp_path)
    async with store.reader("a/original") as stream:

        def read() -> None:
            assert stream.read(10) == data[:10]
            assert stream.seek(-5, os.SEEK_END) == len(data) - 5
            assert stream.read() == data[-5:]
            assert stream.read(5) == b""
            stream.seek(300_000)
            assert stream.read(200_000) == data[300_000:500_000]
            stream.seek(0)
            assert stream.read() == data

        await asyncio.to_thread(read)


async def test_a_function_examines_an_object(store: ObjectStore, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    await put(store, "a/original", data, tmp_path)

    def ends(stream: BinaryIO) -> bytes:
        first = stream.read(5)
        stream.seek(-5, os.SEEK_END)
        return first + stream.read()

    assert await store.examine("a/original", ends) == data[:5] + data[-5:]
    with pytest.raises(ObjectMissing):
        await store.examine("no/such", ends)


async def test_an_error_of_the_reading_function_is_not_translated(store: ObjectStore, tmp_path: Path) -> None:
    await put(store, "a/original", b"x", tmp_path)

    def fail(_stream: BinaryIO) -> None:
        raise OSError("reading failed")

    with pytest.raises(OSError, match="reading failed"):
        await store.examine("a/original", fail)


async def test_reads_after_the_block_are_rejected(store: ObjectStore, tmp_path: Path) -> None:
    await put(store, "a/original", os.urandom(300_000), tmp_path)
    async with store.reader("a/original") as stream:
        await asyncio.to_thread(stream.read, 10)
    async with asyncio.timeout(2):
        with pytest.raises(ValueError):
            await asyncio.to_thread(stream.read, 10)


@pytest.mark.parametrize("size", [1000, LARGE])
async def test_an_object_that_is_not_committed_leaves_nothing_behind(store: ObjectStore, size: int) -> None:
    async with store.create("a/original") as writer:
        await writer.write(b"x" * size)

    async def write_and_fail() -> None:
        async with store.create("a/original") as failing:
            await failing.write(b"x" * size)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await write_and_fail()
    written = asyncio.Event()

    async def write_and_hang() -> None:
        async with store.create("a/original") as hanging:
            await hanging.write(b"x" * size)
            written.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(write_and_hang())
    await written.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await keys(store) == []
    assert await store.size("a/original") is None


async def test_putting_an_object_again_replaces_it(store: ObjectStore, tmp_path: Path) -> None:
    for data in (b"first", b"second!"):
        await put(store, "a/thumbnail", data, tmp_path)
    async with store.local_copy("a/thumbnail") as path:
        assert path.read_bytes() == b"second!"


async def test_deletion_is_idempotent_and_lists_are_ordered_by_key(store: ObjectStore, tmp_path: Path) -> None:
    for key in ("c/j/original", "c/i/thumbnail", "c/i/original", "d/i/original"):
        await put(store, key, b"t", tmp_path)
    assert await keys(store) == ["c/i/original", "c/i/thumbnail", "c/j/original", "d/i/original"]
    assert await keys(store, "c/i/") == ["c/i/original", "c/i/thumbnail"]
    for _ in range(2):
        await store.delete("c/i/original")
    assert await keys(store, "c/") == ["c/i/thumbnail", "c/j/original"]


async def test_a_missing_object_is_reported_as_missing(store: ObjectStore) -> None:
    with pytest.raises(ObjectMissing):
        async with store.reader("no/such"):
            pass
    with pytest.raises(ObjectMissing):
        async with store.local_copy("no/such"):
            pass
    assert await store.size("no/such") is None


async def test_the_check_passes_for_a_working_store(store: ObjectStore) -> None:
    await store.check()
