"""The embedded nats-server of `imago dev`."""

from pathlib import Path

import aiohttp
import pytest

from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.embedded import EmbeddedNats
from imago.nats.streams import ensure_streams
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
