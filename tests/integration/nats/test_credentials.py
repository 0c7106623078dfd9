"""Every kind of NATS credential on real servers, and the minimal permissions of each component."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from nats.errors import Error as NatsError

from devtools.nats import NatsServer
from devtools.waiting import until
from imago.core.jobs.stages import Stage
from imago.core.lanes.worker_lanes import WorkerLanes
from imago.core.outbox.model import OutboxKind, OutboxRow
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.consumer import Delivery, WorkConsumer
from imago.nats.embedded import free_port
from imago.nats.publisher import Ack, Publisher
from imago.nats.streams import StreamOptions, ensure_streams
from imago.settings import Settings
from tests.support.nats_identities import Certificates, Operator


@contextmanager
def running(folder: Path, config: str) -> Iterator[NatsServer]:
    server = NatsServer(folder, config)
    server.start()
    yield server
    server.stop()


@asynccontextmanager
async def connected(name: str = "api", *, timeout: float = 10, **settings: object) -> AsyncIterator[NatsConnection]:
    nats = NatsConnection(Settings(**settings), name=name)  # type: ignore[arg-type]
    await nats.start()
    try:
        await nats.wait_connected(timeout)
        yield nats
    finally:
        await nats.close()


def row(subject: str = "imago.work.standard.exif.0") -> OutboxRow:
    return OutboxRow(1, OutboxKind.WORK, subject, {"v": 1}, {}, uuid4().hex)


async def assert_works(nats: NatsConnection) -> None:
    await ensure_streams(nats.js)
    assert (await Publisher(nats, timeout=5).publish(row())).sequence > 0


async def assert_rejected(**settings: object) -> None:
    with pytest.raises(NatsUnavailable):
        async with connected(timeout=1.5, **settings):
            pass


async def test_user_and_password(tmp_path: Path) -> None:
    with running(tmp_path, "authorization { user: imago, password: right }") as server:
        async with connected(nats_url=(server.url,), nats_user="imago", nats_password="right") as nats:
            await assert_works(nats)
        await assert_rejected(nats_url=(server.url,), nats_user="imago", nats_password="wrong")
        await assert_rejected(nats_url=(server.url,))


async def test_a_token(tmp_path: Path) -> None:
    with running(tmp_path, "authorization { token: right }") as server:
        async with connected(nats_url=(server.url,), nats_token="right") as nats:
            await assert_works(nats)
        await assert_rejected(nats_url=(server.url,), nats_token="wrong")


async def test_a_creds_file(tmp_path: Path) -> None:
    operator, other = Operator(), Operator()
    operator.write_creds(tmp_path / "right.creds")
    other.write_creds(tmp_path / "wrong.creds")
    with running(tmp_path / "nats", operator.server_config()) as server:
        async with connected(nats_url=(server.url,), nats_creds_file=tmp_path / "right.creds") as nats:
            await assert_works(nats)
        await assert_rejected(nats_url=(server.url,), nats_creds_file=tmp_path / "wrong.creds")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl creates the certificates")
async def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    own, foreign = Certificates(tmp_path / "own"), Certificates(tmp_path / "foreign")
    config = f'tls {{ cert_file: "{own.server}", key_file: "{own.server_key}", ca_file: "{own.ca}", verify: true }}'
    with running(tmp_path / "nats", config) as server:
        url = (server.url.replace("nats://", "tls://"),)
        pair = {"nats_tls_cert": own.client, "nats_tls_key": own.client_key}
        async with connected(nats_url=url, nats_tls_ca=own.ca, **pair) as nats:
            await assert_works(nats)
        await assert_rejected(nats_url=url, nats_tls_ca=own.ca)
        await assert_rejected(nats_url=url, nats_tls_ca=foreign.ca, **pair)


async def test_a_credential_that_becomes_valid_connects_without_a_restart(tmp_path: Path) -> None:
    server = NatsServer(tmp_path, "authorization { user: imago, password: old }")
    server.start()
    try:
        nats = NatsConnection(Settings(nats_url=(server.url,), nats_user="imago", nats_password="new"), name="api")
        await nats.start()
        with pytest.raises(NatsUnavailable):
            await nats.wait_connected(1)
        server.stop()
        server.config = "authorization { user: imago, password: new }"
        server.start()
        await nats.wait_connected(10)
        await assert_works(nats)
        await nats.close()
    finally:
        server.stop()


async def test_a_connection_returns_after_a_long_outage(tmp_path: Path) -> None:
    with running(tmp_path, "") as server:
        async with connected(nats_url=(server.url,)) as nats:
            await assert_works(nats)
            server.kill()

            async def noticed() -> bool:
                return not nats.connected

            await until(noticed, what="the lost connection to be noticed")
            # With its defaults, the library would give up in this time: after 60 attempts with the shortest delays.
            await asyncio.sleep(5)
            server.start()

            async def published() -> bool:
                with contextlib.suppress(NatsUnavailable):
                    return (await Publisher(nats, timeout=2).publish(row())).sequence > 0
                return False

            await until(published, what="publishing to succeed again")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[NatsServer]]:
    """Three servers of one cluster."""
    routes = [free_port() for _ in range(3)]
    urls = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
    servers = [
        NatsServer(
            tmp_path / str(index),
            f'server_name: n{index}\ncluster {{ name: tests, listen: "127.0.0.1:{port}", routes: [{urls}] }}',
        )
        for index, port in enumerate(routes)
    ]
    for server in servers:
        server.start(wait=False)
    for server in servers:
        server.wait_ready()
    yield servers
    for server in servers:
        server.stop()


async def test_a_cluster_that_loses_a_node_loses_no_message(cluster: list[NatsServer]) -> None:
    urls = tuple(server.url for server in cluster)
    async with connected(nats_url=urls) as nats:

        async def created() -> bool:
            try:
                await ensure_streams(nats.js, options=StreamOptions(replicas=3))
            except Exception:
                # A new cluster elects its leaders first.
                return False
            return True

        await until(created, what="the streams to be created", timeout=30, interval=0.5)
        info = await nats.js.stream_info("IMAGO_WORK_STANDARD")
        assert (info.config.num_replicas, len(info.cluster.replicas if info.cluster else [])) == (3, 2)
        publisher = Publisher(nats, timeout=2)
        acked: list[int] = []

        async def publish() -> bool:
            outcome = (await publisher.publish_many([row()]))[0]
            if isinstance(outcome, Ack):
                acked.append(outcome.sequence)
            return isinstance(outcome, Ack)

        for _ in range(50):
            assert await publish()
        connected_to = nats.client.connected_url
        assert connected_to is not None
        next(server for server in cluster if server.port == connected_to.port).kill()
        await until(publish, what="publishing to succeed on another node", timeout=10, interval=0.1)
        for _ in range(50):
            await publish()
        info = await nats.js.stream_info("IMAGO_WORK_STANDARD")
        assert info.state.messages >= len(acked)
        assert info.state.last_seq >= max(acked)


# The permissions of a worker's NATS user (charts/imago/templates/nats.yaml has the same list).
WORKER_PERMISSIONS = """
  publish: { allow: [
    "$JS.API.CONSUMER.INFO.*.exif", "$JS.API.CONSUMER.MSG.NEXT.*.exif", "$JS.ACK.*.exif.>",
    "$JS.API.STREAM.LIST", "imago.events.>", "imago.dead.>" ] }
  subscribe: { allow: ["_INBOX_imago_worker-exif.>"] }
"""


async def test_a_worker_needs_only_its_permissions_and_can_not_manage_streams(tmp_path: Path) -> None:
    users = f"""authorization {{ users: [
      {{ user: api, password: a }},
      {{ user: worker, password: w, permissions: {{ {WORKER_PERMISSIONS} }} }} ] }}"""
    with running(tmp_path, users) as server:
        api = {"nats_url": (server.url,), "nats_user": "api", "nats_password": "a"}
        worker = {"nats_url": (server.url,), "nats_user": "worker", "nats_password": "w"}
        async with connected("api", **api) as admin, connected("worker-exif", **worker) as nats:
            await ensure_streams(admin.js)
            done: list[Delivery] = []

            async def handle(delivery: Delivery) -> None:
                await delivery.in_progress()
                done.append(delivery)
                await (delivery.nak() if len(done) == 1 else delivery.ack())

            consumer = WorkConsumer(
                nats,
                stages=[Stage.EXIF],
                lanes=WorkerLanes.parse("premium,standard,*"),
                max_jobs=2,
                heartbeat=1,
                handler=handle,
            )
            running_ = asyncio.create_task(consumer.run())
            await Publisher(admin, timeout=5).publish(row())

            async def twice() -> bool:
                info = await admin.js.consumer_info("IMAGO_WORK_STANDARD", "exif")
                return len(done) == 2 and info.num_ack_pending == 0

            await until(twice, what="the worker to return and then acknowledge a message")
            await Publisher(nats, timeout=5).publish(row("imago.events.0.0.stage.done"))
            await Publisher(nats, timeout=5).publish(row("imago.dead.standard.exif.0"))
            for forbidden in (
                nats.js.delete_stream("IMAGO_WORK_STANDARD"),
                nats.js.purge_stream("IMAGO_WORK_STANDARD"),
                nats.js.delete_consumer("IMAGO_WORK_STANDARD", "exif"),
                ensure_streams(nats.js, options=StreamOptions(ack_wait=1)),
                Publisher(nats, timeout=1).publish(row("imago.work.standard.exif.0")),
            ):
                with pytest.raises((NatsError, NatsUnavailable, TimeoutError)):
                    async with asyncio.timeout(1.5):
                        await forbidden
            assert (await admin.js.stream_info("IMAGO_WORK_STANDARD")).state.consumer_count == 4
            spy = await nats.client.subscribe("_INBOX_imago_api.>")
            await admin.js.account_info()
            with pytest.raises(NatsError):
                await spy.next_msg(timeout=0.5)
            await consumer.stop(grace=1)
            await running_


async def test_no_password_reaches_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(tmp_path, "authorization { user: imago, password: right }") as server:
        url = server.url.replace("nats://", "nats://imago:secret-in-url@")
        await assert_rejected(nats_url=(url,))
        await assert_rejected(nats_url=(server.url,), nats_user="imago", nats_password="secret-in-setting")
    captured = capsys.readouterr()
    assert "secret-in" not in captured.out + captured.err
