"""Expiry of upload intents and Idempotency-Keys."""

import sqlalchemy as sa

from imago.core.times import utc_now
from imago.core.uploads.intents import replace_by_tombstones
from imago.db.engine import SYSTEM, Database
from imago.db.tables import idempotency_keys, upload_intents


async def expire_intents(db: Database) -> int:
    """Replace expired intents by tombstones of their objects; return how many."""
    now = utc_now()
    async with db.write(SYSTEM) as connection:
        return await replace_by_tombstones(connection, upload_intents.c.expires_at < now, now=now)


async def expire_idempotency_keys(db: Database) -> int:
    """Delete expired Idempotency-Keys; return how many."""
    async with db.write(SYSTEM) as connection:
        deleted = await connection.execute(sa.delete(idempotency_keys).where(idempotency_keys.c.expires_at < utc_now()))
    return deleted.rowcount
