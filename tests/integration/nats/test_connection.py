"""The connection to a real NATS server that is stopped and started."""

from pathlib import Path

import pytest

from devtools.nats import NatsServer
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.settings import Settings


async def test_a_connection_starts_while_its_server_is_unavailable(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    nats = NatsConnection(Settings(nats_url=(server.url,)), name="test")
    await nats.start()
    with pytest.raises(NatsUnavailable):
        _ = nats.js
    with pytest.raises(NatsUnavailable):
        await nats.wait_connected(0.2)
    server.start()
    await nats.wait_connected(15)
    await nats.close()
    server.stop()
