"""Leases in the database: a periodic task is run by one process at a time."""

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.tables import leases


async def take_lease(db: Database, name: str, holder: str, *, ttl: timedelta) -> bool:
    """Take or renew the lease `name`; return False while another holder has it."""
    now = utc_now()
    insert = sqlite.insert if db.is_sqlite else postgresql.insert
    statement = insert(leases).values(name=name, holder=holder, until=now + ttl)
    statement = statement.on_conflict_do_update(
        index_elements=[leases.c.name],
        set_={"holder": holder, "until": now + ttl},
        where=sa.or_(leases.c.holder == holder, leases.c.until < now),
    )
    async with db.write(SYSTEM) as connection:
        taken = await connection.execute(statement)
    return taken.rowcount == 1


async def release_leases(db: Database, holder: str) -> None:
    """Release all leases of a holder, so that other processes need not wait until they expire."""
    async with db.write(SYSTEM) as connection:
        await connection.execute(sa.delete(leases).where(leases.c.holder == holder))
