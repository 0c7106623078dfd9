"""Event streams on a real NATS server: live, resumed, reset, limited and private."""

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import aiohttp
import orjson
import pytest
import sqlalchemy as sa

from devtools.nats import NatsServer
from devtools.waiting import until
from imago.api.events import hub as hub_module
from imago.api.events.hub import EventHub, Listener
from imago.cli.watching import ServerEvent, stream_events
from imago.core.clients.model import Client
from imago.core.outbox.events import Event, EventName
from imago.core.outbox.subjects import event_subject
from imago.db.engine import Database
from imago.db.tables import api_keys
from imago.nats.connection import NatsConnection
from imago.nats.streams import ensure_streams
from tests.integration.api.conftest import Api, Tenant, serve


@dataclasses.dataclass
class Listening:
    """A tenant's event stream, which is read in the background."""

    seen: list[ServerEvent]
    task: "asyncio.Task[None]"

    async def wait(self, count: int) -> list[ServerEvent]:
        async def enough() -> bool:
            return len(self.seen) >= count

        await until(enough, what=f"{count} events, seen {[event.name for event in self.seen]}")
        return self.seen


@dataclasses.dataclass
class Rig:
    """An API with its event hub, and its connection to NATS."""

    api: Api
    nats: NatsConnection
    hub: EventHub

    async def publish(self, client: Client, number: int) -> None:
        image = uuid4()
        event = Event(uuid4(), EventName.STAGE_DONE, client.uuid, number, image, datetime.now(UTC))
        await self.nats.js.publish(
            event_subject(client.uuid, image, event.name), orjson.dumps(event.to_json()), timeout=5
        )

    @contextlib.asynccontextmanager
    async def listen(self, tenant: Tenant, *, after: str | None = None) -> AsyncIterator[Listening]:
        seen: list[ServerEvent] = []
        base = f"http://127.0.0.1:{self.api.http.port}/"
        async with aiohttp.ClientSession(base, headers={"X-API-Key": tenant.key}) as session:

            async def read() -> None:
                async for event in stream_events(session, after=after):
                    seen.append(event)

            before = self._open()
            listening = Listening(seen, asyncio.create_task(read()))

            async def opened() -> bool:
                return bool(self._open() - before) or listening.task.done()

            await until(opened, what="the stream to be open")
            try:
                yield listening
            finally:
                listening.task.cancel()
                with contextlib.suppress(asyncio.CancelledError, aiohttp.ClientError):
                    await listening.task

    def _open(self) -> set[Listener]:
        return {listener for listeners in self.hub._listeners.values() for listener in listeners}


@pytest.fixture
async def rig(sqlite_db: Database, nats: NatsConnection, tmp_path: Path) -> AsyncIterator[Rig]:
    await ensure_streams(nats.js)
    hub = EventHub(nats)
    await hub.start()
    # With the default buffer, the kernel would accept megabytes for a listener that reads nothing.
    served = await serve(sqlite_db, tmp_path / "objects", events_heartbeat=0.2, events=hub, send_buffer=4096)
    yield Rig(served, nats, hub)
    await served.http.close()
    await hub.close()


def numbers(events: list[ServerEvent]) -> list[int]:
    return [event.data["image_id"] for event in events]


async def test_a_client_receives_only_events_of_its_own_images(rig: Rig) -> None:
    mine, other = await rig.api.new_client("mine"), await rig.api.new_client("other")
    async with rig.listen(mine) as listening:
        for number in range(1, 6):
            await rig.publish(other.client, number + 100)
            await rig.publish(mine.client, number)
        assert numbers(await listening.wait(5)) == [1, 2, 3, 4, 5]
    event = listening.seen[0]
    assert event.name == "stage.done"
    assert set(event.data) >= {"v", "event_id", "name", "image_id", "image_uuid", "stage", "run", "status", "at"}


async def test_a_stream_resumes_after_the_last_event(rig: Rig) -> None:
    tenant = await rig.api.new_client()
    async with rig.listen(tenant) as first:
        await rig.publish(tenant.client, 1)
        last = (await first.wait(1))[-1].id
    for number in range(2, 12):
        await rig.publish(tenant.client, number)
    async with rig.listen(tenant, after=last) as second:
        await rig.publish(tenant.client, 12)
        assert numbers(await second.wait(11)) == list(range(2, 13))


async def test_resuming_while_events_arrive_neither_skips_nor_repeats_any(rig: Rig) -> None:
    tenant = await rig.api.new_client()
    async with rig.listen(tenant) as first:
        await rig.publish(tenant.client, 0)
        last = (await first.wait(1))[-1].id

    async def flood() -> None:
        for number in range(1, 301):
            await rig.publish(tenant.client, number)

    flooding = asyncio.create_task(flood())
    async with rig.listen(tenant, after=last) as second:
        await flooding
        assert numbers(await second.wait(300)) == list(range(1, 301))


@pytest.mark.parametrize("after", ["0-5", "nonsense", "-", "1-99999999999999999999999"])
async def test_an_unknown_position_starts_with_a_reset(rig: Rig, after: str) -> None:
    tenant = await rig.api.new_client()
    async with rig.listen(tenant, after=after) as listening:
        await rig.publish(tenant.client, 1)
        events = await listening.wait(2)
    assert [event.name for event in events] == ["reset", "stage.done"]
    async with rig.listen(tenant, after=events[0].id) as again:
        assert numbers(await again.wait(1)) == [1], "a stream must resume after the id of a reset"


async def test_a_position_that_is_no_longer_stored_starts_with_a_reset(rig: Rig) -> None:
    tenant = await rig.api.new_client()
    async with rig.listen(tenant) as first:
        for number in range(1, 4):
            await rig.publish(tenant.client, number)
        oldest = (await first.wait(3))[0].id
    await rig.nats.js.purge_stream("IMAGO_EVENTS")
    async with rig.listen(tenant, after=oldest) as second:
        assert (await second.wait(1))[0].name == "reset"


async def test_a_recreated_stream_resets_its_listeners_and_continues(rig: Rig) -> None:
    tenant = await rig.api.new_client()
    async with rig.listen(tenant) as listening:
        await rig.publish(tenant.client, 1)
        await listening.wait(1)
        await rig.nats.js.delete_stream("IMAGO_EVENTS")
        await ensure_streams(rig.nats.js)

        async def reset() -> bool:
            return any(event.name == "reset" for event in listening.seen)

        await until(reset, what="the listener to be reset")
        await rig.publish(tenant.client, 2)
        assert [event.name for event in await listening.wait(3)] == ["stage.done", "reset", "stage.done"]


async def test_listeners_survive_a_restart_of_nats(rig: Rig, nats_server: NatsServer) -> None:
    tenant = await rig.api.new_client()
    async with rig.listen(tenant) as listening:
        await rig.publish(tenant.client, 1)
        await listening.wait(1)
        nats_server.kill()
        nats_server.start()

        async def published() -> bool:
            with contextlib.suppress(Exception):
                await rig.publish(tenant.client, 2)
                return True
            return False

        await until(published, what="NATS to accept events")
        assert numbers(await listening.wait(2))[-1] == 2


async def test_a_stream_without_events_sends_heartbeats(rig: Rig) -> None:
    tenant = await rig.api.new_client()
    async with rig.api.http.get("/images/events", headers={"X-API-Key": tenant.key}) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["X-Accel-Buffering"] == "no"
        async with asyncio.timeout(10):
            while b": heartbeat" not in await response.content.readline():
                pass


async def test_a_listener_that_reads_nothing_is_dropped(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imago.api.events.routes.WRITE_SECONDS", 0.5)
    tenant = await rig.api.new_client()
    narrow = socket.socket()
    # Set before connecting, so that the window is small.
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect(("127.0.0.1", rig.api.http.port))
    reader, writer = await asyncio.open_connection(sock=narrow, limit=1024)
    writer.write(f"GET /images/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {tenant.key}\r\n\r\n".encode())
    await reader.readline()
    stop = asyncio.Event()

    async def flood() -> None:
        while not stop.is_set():
            await asyncio.gather(*(rig.publish(tenant.client, number) for number in range(200)))

    flooding = asyncio.create_task(flood())

    async def gone() -> bool:
        return not rig._open()

    await until(gone, what="the slow listener to be dropped", timeout=60)
    stop.set()
    await flooding
    writer.close()


async def test_a_full_queue_drops_its_listener() -> None:
    listener = Listener("token")
    for _ in range(hub_module.QUEUE_EVENTS + 1):
        listener.offer(hub_module.ListenerMessage("1-1", None))
    assert listener.dropped
    assert listener.queue.qsize() == hub_module.QUEUE_EVENTS


async def test_the_number_of_a_clients_streams_is_limited(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "MAX_LISTENERS", 1)
    tenant = await rig.api.new_client()
    async with rig.listen(tenant):
        status, problem = await tenant.call("GET", "/images/events")
        assert (status, problem["code"]) == (429, "rate-limited")


async def test_a_revoked_key_ends_its_streams(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imago.api.events.routes.RECHECK_SECONDS", 0.1)
    tenant = await rig.api.new_client()
    async with rig.listen(tenant) as listening:
        await _revoke(rig.api.services.db, tenant)

        async def ended() -> bool:
            return listening.task.done()

        await until(ended, what="the stream to end after its key was revoked")


async def test_stopping_ends_the_streams(rig: Rig) -> None:
    tenant = await rig.api.new_client()
    async with rig.listen(tenant) as listening:
        rig.hub.dismiss()

        async def ended() -> bool:
            return listening.task.done()

        await until(ended, what="the stream to end with the process")


async def test_events_without_nats_are_a_503(sqlite_db: Database, tmp_path: Path) -> None:
    served = await serve(sqlite_db, tmp_path / "objects")
    tenant = await served.new_client()
    assert (await tenant.call("GET", "/images/events"))[0] == 503
    await served.http.close()


async def _revoke(db: Database, tenant: Tenant) -> None:
    async with db.write() as connection:
        await connection.execute(
            sa.update(api_keys).where(api_keys.c.client_id == tenant.client.id).values(revoked_at=datetime.now(UTC))
        )
