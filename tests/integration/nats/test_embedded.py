"""The embedded nats-server of `imago dev`."""

from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from nats.js.errors import ServerError

from imago.nats import embedded
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.embedded import EmbeddedNats
from imago.nats.streams import ensure_streams
from imago.runtime.startup import StartupError
from imago.settings import Settings


async def test_the_embedded_server_requires_its_password_and_keeps_it_private(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path)
    await server.start()
    try:
        assert (tmp_path / "nats-server.conf").stat().st_mode & 0o077 == 0
        settings = Settings(nats_url=(server.url,), nats_user=server.user, nats_password=server.password)
        nats = NatsConnection(settings, name="test")
        await nats.start()
        await nats.wait_connected(10)
        await ensure_streams(nats.js)
        await nats.close()
        anonymous = NatsConnection(Settings(nats_url=(server.url,)), name="anonymous")
        await anonymous.start()
        with pytest.raises(NatsUnavailable):
            await anonymous.wait_connected(0.5)
        await anonymous.close()
        async with aiohttp.ClientSession() as session, session.get(f"{server.monitor_url}/healthz") as response:
            assert response.status == 200
    finally:
        await server.stop()
    assert server.pid is None


async def streams_of(directory: Path) -> int:
    """Start the server, create the streams and return how many there are."""
    server = EmbeddedNats(directory)
    await server.start()
    nats = NatsConnection(
        Settings(nats_url=(server.url,), nats_user=server.user, nats_password=server.password), name="test"
    )
    try:
        await nats.start()
        await nats.wait_connected(10)
        await ensure_streams(nats.js)
        return len(await nats.js.streams_info())
    finally:
        await nats.close()
        await server.stop()


@pytest.mark.parametrize("damage", [b"", b'{"Name":"IMAGO', b"\xff\xff"])
async def test_a_store_that_a_power_failure_damaged_is_created_again(tmp_path: Path, damage: bytes) -> None:
    streams = await streams_of(tmp_path)
    for name in ("meta.inf", "meta.sum", "index.db", "*.blk"):
        files = list((tmp_path / "jetstream").rglob(name))
        for file in files:
            file.write_bytes(damage)
        assert await streams_of(tmp_path) == streams, name


async def test_a_store_without_the_metadata_of_a_stream_is_created_again(tmp_path: Path) -> None:
    streams = await streams_of(tmp_path)
    next((tmp_path / "jetstream").rglob("IMAGO_WORK_STANDARD/meta.inf")).unlink()
    assert await streams_of(tmp_path) == streams


async def test_a_store_whose_metadata_have_another_checksum_is_created_again(tmp_path: Path) -> None:
    streams = await streams_of(tmp_path)
    metadata = next((tmp_path / "jetstream").rglob("IMAGO_WORK_STANDARD/meta.inf"))
    metadata.write_bytes(metadata.read_bytes().replace(b"STANDARD", b"STANDERD"))
    assert await streams_of(tmp_path) == streams


def without_a_server(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_server", lambda: str(directory / "no-such-program"))


def with_a_slow_server(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "READY_SECONDS", 0.0)


def without_space_for_the_configuration(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "nats-server.conf").unlink()
    (directory / "nats-server.conf").mkdir()


def with_a_broken_server(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = directory / "nats-server"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setattr(embedded, "find_server", lambda: str(program))


@pytest.mark.parametrize(
    "failing", [without_a_server, with_a_slow_server, without_space_for_the_configuration, with_a_broken_server]
)
async def test_failures_of_the_machine_keep_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: Callable[[Path, pytest.MonkeyPatch], None]
) -> None:
    await streams_of(tmp_path)
    stored = sorted((tmp_path / "jetstream").rglob("meta.inf"))
    failing(tmp_path, monkeypatch)
    with pytest.raises(StartupError):
        await EmbeddedNats(tmp_path).start()
    assert sorted((tmp_path / "jetstream").rglob("meta.inf")) == stored


async def test_a_damaged_consumer_is_reported_when_it_is_used(tmp_path: Path) -> None:
    await streams_of(tmp_path)
    for file in (tmp_path / "jetstream").rglob("o.dat"):
        file.write_bytes(b"\xff\xff")
    server = EmbeddedNats(tmp_path)
    await server.start()
    nats = NatsConnection(
        Settings(nats_url=(server.url,), nats_user=server.user, nats_password=server.password), name="test"
    )
    try:
        await nats.start()
        await nats.wait_connected(10)
        assert await server.found_damage()
        with pytest.raises(ServerError):
            await ensure_streams(nats.js)
    finally:
        await nats.close()
        await server.stop()
