"""Processes that froze inside a statement lose their sessions and locks."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from devtools.waiting import until
from imago.db.engine import APPLICATION_NAME, Database
from imago.db.frozen_sessions import end_frozen_sessions
from imago.db.tables import clients
from tests.support.samples import make_client

on_postgresql = pytest.mark.parametrize("db", ["postgresql"], indirect=True)


async def test_sqlite_has_no_sessions_to_end(sqlite_db: Database) -> None:
    assert await end_frozen_sessions(sqlite_db, frozen_for=timedelta(0)) == 0


@on_postgresql
async def test_a_session_that_froze_between_preparing_and_executing_is_ended_with_its_locks(db: Database) -> None:
    client = await make_client(db)
    async with db.engine.connect() as held:
        await held.execute(sa.select(clients).where(clients.c.id == client.id).with_for_update())
        raw = (await held.get_raw_connection()).driver_connection
        assert raw is not None
        # A process that freezes here has sent Parse and Describe but no Sync, so its session is active.
        await raw.prepare("SELECT count(*) FROM clients")
        state = sa.text("SELECT state FROM pg_stat_activity WHERE pid = :pid")
        async with db.read() as connection:
            assert await connection.scalar(state, {"pid": raw.get_server_pid()}) == "active"
        assert await end_frozen_sessions(db, frozen_for=timedelta(minutes=1)) == 0, "it froze just now"
        assert await end_frozen_sessions(db, frozen_for=timedelta(0)) == 1

        async def gone() -> bool:
            async with db.read() as connection:
                return await connection.scalar(state, {"pid": raw.get_server_pid()}) is None

        await until(gone, what="the session to end")
        await held.invalidate()
    async with db.write() as connection:
        query = sa.select(clients.c.id).where(clients.c.id == client.id).with_for_update(nowait=True)
        assert await connection.scalar(query) == client.id


@on_postgresql
async def test_idle_sessions_are_not_ended(db: Database) -> None:
    async with db.engine.connect() as idle:
        await idle.execute(sa.text("SELECT 1"))
        assert await end_frozen_sessions(db, frozen_for=timedelta(0)) == 0
        name = await idle.scalar(sa.text("SELECT current_setting('application_name')"))
    assert name == APPLICATION_NAME
