"""Servers and databases shared by tests."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from sqlalchemy.ext.asyncio import create_async_engine

from devtools.nats import NatsServer
from devtools.postgres import OWNER, RUNTIME, create_database, postgres_server, url_as
from imago.db.engine import Database
from imago.db.migrations import upgrade
from imago.nats.connection import NatsConnection
from imago.nats.streams import existing_lanes
from imago.settings import Settings
from imago.telemetry.logs import configure_logging

pytest_plugins = ("tests.support.skips",)

# On a busy machine any example takes long; that is no fault of the code.
settings.register_profile("imago", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("imago")


@pytest.fixture(scope="session", autouse=True)
def _logging() -> None:
    configure_logging(level="warning", console=True)


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A real NATS server with JetStream."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def nats(nats_server: NatsServer) -> AsyncIterator[NatsConnection]:
    """A connection to an empty JetStream."""
    connection = NatsConnection(Settings(nats_url=(nats_server.url,)), name="test")
    await connection.start()
    await connection.wait_connected(10)
    yield connection
    for stream in await connection.js.streams_info():
        await connection.js.delete_stream(stream.config.name or "")
    assert await existing_lanes(connection.js) == ()
    await connection.close()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL server with a migrated database `template_imago` to copy."""
    with postgres_server(tmp_path_factory.mktemp("postgres")) as url:
        _run_apart(_migrate_template(url))
        yield url


def _run_apart(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in another thread, because a session fixture may be requested inside a running loop."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


async def _migrate_template(url: str) -> None:
    await create_database(url, "template_imago")
    db = Database(f"{url_as(url, OWNER)}/template_imago")
    await upgrade(db, runtime_role=RUNTIME)
    await db.close()


async def _administer(url: str, statement: str) -> None:
    engine = create_async_engine(f"{url}/postgres", isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(sa.text(statement))
    await engine.dispose()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"

    async def make() -> None:
        db = Database(f"sqlite+aiosqlite:///{path}")
        await upgrade(db)
        # Closing the last connection writes the WAL back into the file.
        await db.close()

    _run_apart(make())
    return path


@pytest.fixture
async def sqlite_db(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Database]:
    """A fresh migrated SQLite database."""
    path = tmp_path / "imago.db"
    path.write_bytes(sqlite_template.read_bytes())
    db = Database(f"sqlite+aiosqlite:///{path}")
    yield db
    await db.close()


@pytest.fixture(params=["sqlite", "postgresql"])
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A fresh migrated database, once on each backend."""
    if request.param == "sqlite":
        path = tmp_path / "imago.db"
        path.write_bytes(request.getfixturevalue("sqlite_template").read_bytes())
        fresh = Database(f"sqlite+aiosqlite:///{path}")
        yield fresh
        await fresh.close()
        return
    server: str = request.getfixturevalue("postgres")
    name = f"test_{uuid.uuid4().hex}"
    await _administer(server, f"CREATE DATABASE {name} TEMPLATE template_imago OWNER {OWNER}")
    fresh = Database(f"{url_as(server, RUNTIME)}/{name}", pool_size=20)
    yield fresh
    await fresh.close()
    await _administer(server, f"DROP DATABASE {name} WITH (FORCE)")
