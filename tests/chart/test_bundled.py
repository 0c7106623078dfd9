"""The bundled servers and the scripts of pods, run as the chart would start them in a cluster."""

import asyncio
import base64
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa
from helm_python.chart import Chart
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from devtools.nats import NatsServer
from devtools.postgres import programs
from devtools.waiting import until
from imago.core.jobs.stages import OPTIONAL_STAGES, STAGES, WORKER_STAGES, server_workers
from imago.core.outbox.subjects import work_stream
from imago.db.engine import Database
from imago.db.migrations import upgrade
from imago.db.schema import current_revision, head_revision
from imago.nats.breaker_store import SharedBreaker
from imago.nats.connection import NatsConnection
from imago.nats.embedded import free_port
from imago.nats.streams import ensure_streams
from imago.settings import Settings
from tests.support.manifests import Rendered, render, scenario
from tests.support.nats_identities import Certificates

FILES = Path("charts/imago/files")


@pytest.fixture(scope="module")
def quickstart(chart: Chart) -> Rendered:
    return render(chart, scenario("quickstart"))


@pytest.fixture
def bundled_nats(quickstart: Rendered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NatsServer]:
    """The NATS server with its rendered configuration, including users, permissions and passwords."""
    for key, value in quickstart.of("Secret")["imago-nats"]["data"].items():
        monkeypatch.setenv(key.upper().replace("-", "_"), base64.b64decode(value).decode())
    config = quickstart.of("ConfigMap")["imago-nats"]["data"]["nats.conf"]
    # The test's server sets its own directory by a flag.
    config = config.replace("0.0.0.0", "127.0.0.1").replace("store_dir: /data", "")
    server = NatsServer(tmp_path / "nats", config)
    server.start()
    yield server
    server.stop()


def settings_of(user: str, server: NatsServer) -> Settings:
    return Settings(nats_url=(server.url,), nats_user=user, nats_password=os.environ[f"{user.upper()}_PASSWORD"])


async def test_each_component_has_only_the_permissions_it_needs_on_the_bundled_nats(bundled_nats: NatsServer) -> None:
    for user in ("api", "operator"):
        nats = NatsConnection(settings_of(user, bundled_nats), name=user)
        await nats.start()
        await nats.wait_connected(10)
        await ensure_streams(nats.js)
        for stage in STAGES:
            await nats.js.publish(f"imago.work.standard.{stage}.{'0' * 32}", b"{}")
        await nats.close()
    for kind in server_workers(OPTIONAL_STAGES):
        nats = NatsConnection(settings_of(kind, bundled_nats), name=f"worker-{kind}")
        await nats.start()
        await nats.wait_connected(10)
        for stage in WORKER_STAGES[kind]:
            subscription = await nats.js.pull_subscribe_bind(stage, stream=work_stream("standard"))
            (message, *_) = await subscription.fetch(1, timeout=5)
            await message.ack_sync()
        if kind != "exif":
            shared = BreakerObserver()
            await SharedBreaker(nats, probe=timedelta(minutes=1), observer=shared).failed(kind)  # type: ignore[arg-type]
            assert not shared.blind, "the bucket of the breakers cannot be reached"
        # Requests without permission get no reply.
        js = nats.client.jetstream(timeout=0.5)
        with pytest.raises((NatsError, APIError)):
            await js.delete_stream(work_stream("standard"))
        with pytest.raises((NatsError, APIError)):
            await js.publish(f"imago.work.premium.{WORKER_STAGES[kind][0]}.{'0' * 32}", b"{}")
        await nats.close()


class BreakerObserver:
    """Records whether a breaker could not read the shared state."""

    blind = False

    def breaker_blind(self) -> None:
        self.blind = True

    def breaker(self, _states: object) -> None:
        pass


@pytest.fixture
def bundled_postgresql(tmp_path: Path) -> dict[str, str]:
    """The environment of PostgreSQL's start script, in a directory of a user that may run it."""
    as_root = os.geteuid() == 0
    for parent in (tmp_path, *tmp_path.parents):
        if as_root and parent.owner() == "root" and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    if as_root:
        shutil.chown(tmp_path, "postgres")
    script = (FILES / "postgresql.sh").read_text().replace("listen_addresses='*'", "listen_addresses=127.0.0.1")
    (tmp_path / "start.sh").write_text(script)
    (tmp_path / "start.sh").chmod(0o644)
    return {
        "PATH": os.environ["PATH"],
        "PROGRAMS": str(programs()),
        "PGDATA": f"{tmp_path}/pgdata",
        "PGPORT": str(free_port()),
        "TMPDIR": str(tmp_path),
        **{f"{name}_PASSWORD": name.lower() for name in ("SUPERUSER", "OWNER", "RUNTIME")},
    }


class StartScript:
    """The running start script."""

    def __init__(self, environment: dict[str, str]) -> None:
        prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self._log = Path(environment["TMPDIR"]) / "log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [*prefix, "sh", f"{environment['TMPDIR']}/start.sh"],
                env=environment,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )

    def output(self) -> str:
        return self._log.read_text()

    def stop(self) -> None:
        """Stop the script and its child processes."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
            self.process.wait(30)


async def test_the_bundled_postgresql_recovers_from_an_interrupted_first_start(
    bundled_postgresql: dict[str, str],
) -> None:
    half = Path(bundled_postgresql["PGDATA"] + ".new")
    half.mkdir()
    (half / "PG_VERSION").write_text("15")
    if os.geteuid() == 0:
        shutil.chown(half, "postgres")
    port = bundled_postgresql["PGPORT"]
    owner = Database(f"postgresql+asyncpg://imago:owner@127.0.0.1:{port}/imago")
    runtime = Database(f"postgresql+asyncpg://imago_runtime:runtime@127.0.0.1:{port}/imago")
    wrong_password = Database(f"postgresql+asyncpg://imago:wrong@127.0.0.1:{port}/imago")
    try:
        for start in range(2):
            server = StartScript(bundled_postgresql)

            async def answers(server: StartScript = server) -> bool:
                assert server.process.poll() is None, server.output()
                try:
                    await owner.check()
                except Exception:
                    return False
                return True

            try:
                await until(answers, what="PostgreSQL to answer", timeout=90, interval=0.2)
                if start == 0:
                    await upgrade(owner, runtime_role="imago_runtime")
                assert await current_revision(runtime) == head_revision()
                async with runtime.read() as connection:
                    bypasses = await connection.scalar(
                        sa.text("SELECT rolbypassrls OR rolsuper FROM pg_roles WHERE rolname = current_user")
                    )
                assert bypasses is False
                with pytest.raises(Exception, match=r"."):
                    await wrong_password.check()
            finally:
                for database in (owner, runtime, wrong_password):
                    await database.engine.dispose()
                server.stop()
    finally:
        for database in (owner, runtime, wrong_password):
            await database.close()


class FakeApiServer:
    """An API server that only lists ImagoClients, for the uninstall guard."""

    def __init__(self, folder: Path, items: dict[str, list[tuple[str, str]]] | None) -> None:
        certificates = Certificates(folder)
        shutil.copy(certificates.ca, folder / "ca.crt")
        (folder / "token").write_text("the account's token\n")
        self.requests: list[tuple[str, str | None]] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api.requests.append((self.path, self.headers["Authorization"]))
                namespace = self.path.split("/")[5] if "/namespaces/" in self.path else "*"
                found = [
                    {"metadata": {"name": name, "namespace": namespace}, "spec": {"installation": installation}}
                    for name, installation in (items or {}).get(namespace, ())
                ]
                self.send_response(404 if items is None else 200)
                self.end_headers()
                self.wfile.write(json.dumps({"items": found}).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.server, certificates.server_key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl")
@pytest.mark.parametrize(
    ("items", "code", "message"),
    [
        ({"photos": [("atelier", "default")]}, 1, "ImagoClients exist: photos/atelier."),
        ({"photos": [("atelier", "another")], "archive": []}, 0, ""),
        ({}, 0, ""),
        (None, 0, ""),
    ],
    ids=["remaining", "another installation", "none", "no CRD"],
)
async def test_an_uninstall_is_rejected_while_clients_of_the_installation_exist(
    tmp_path: Path, items: dict[str, list[tuple[str, str]]] | None, code: int, message: str
) -> None:
    api = FakeApiServer(tmp_path / "account", items)
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", (FILES / "uninstall_guard.py").read_text()],
            env={
                "INSTALLATION": "default",
                "NAMESPACES": "photos,archive",
                "SERVICE_ACCOUNT": str(tmp_path / "account"),
                "KUBERNETES_SERVICE_HOST": "127.0.0.1",
                "KUBERNETES_SERVICE_PORT": str(api.port),
            },
            capture_output=True,
            text=True,
        )
    finally:
        api.close()
    assert (done.returncode, done.stderr[: len(message)]) == (code, message), done.stderr
    assert {path.split("/")[5] for path, _ in api.requests} == {"photos", "archive"}
    assert {authorization for _, authorization in api.requests} == {"Bearer the account's token"}


def test_an_uninstall_is_rejected_while_the_api_server_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    done = subprocess.run(
        [sys.executable, "-c", (FILES / "uninstall_guard.py").read_text()],
        env={
            "INSTALLATION": "default",
            "NAMESPACES": "photos",
            "SERVICE_ACCOUNT": str(tmp_path),
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(free_port()),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("cannot check for remaining ImagoClients")
