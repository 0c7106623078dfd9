"""Processes that froze in the middle of a statement don't keep their locks."""

from datetime import timedelta

import sqlalchemy as sa

from devtools.waiting import until
from imago.db.engine import APPLICATION_NAME, Database
from imago.db.frozen_sessions import end_frozen_sessions
from imago.db.tables import clients
from tests.support.samples import make_client


async def test_a_session_that_froze_between_preparing_and_executing_is_ended_and_its_locks_with_it(
    db: Database,
) -> None:
    if db.is_sqlite:
        assert await end_frozen_sessions(db, frozen_for=timedelta(0)) == 0
        return
    client = await make_client(db)
    async with db.engine.connect() as held:
        await held.execute(sa.select(clients).where(clients.c.id == client.id).with_for_update())
        raw = (await held.get_raw_connection()).driver_connection
        assert raw is not None
        # A process that freezes here has sent Parse and Describe and no Sync: to the server it is active.
        await raw.prepare("SELECT count(*) FROM clients")
        state = sa.text("SELECT state FROM pg_stat_activity WHERE pid = :pid")
        async with db.read() as connection:
            assert await connection.scalar(state, {"pid": raw.get_server_pid()}) == "active"
        assert await end_frozen_sessions(db, frozen_for=timedelta(minutes=1)) == 0, "it has not been silent for long"
        assert await end_frozen_sessions(db, frozen_for=timedelta(0)) == 1

        async def gone() -> bool:
            async with db.read() as connection:
                return await connection.scalar(state, {"pid": raw.get_server_pid()}) is None

        await until(gone, what="the session to end")
        await held.invalidate()
    async with db.write() as connection:
        query = sa.select(clients.c.id).where(clients.c.id == client.id).with_for_update(nowait=True)
        assert await connection.scalar(query) == client.id


async def test_sessions_that_only_wait_are_left_alone(db: Database) -> None:
    if db.is_sqlite:
        return
    async with db.engine.connect() as idle:
        await idle.execute(sa.text("SELECT 1"))
        assert await end_frozen_sessions(db, frozen_for=timedelta(0)) == 0
        name = await idle.scalar(sa.text("SELECT current_setting('application_name')"))
    assert name == APPLICATION_NAME
