"""What a client stores now."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.clients.model import Usage
from imago.db.prepared import PreparedStatement
from imago.db.tables import client_usage

_USAGE = PreparedStatement(sa.select(client_usage).where(client_usage.c.client_id == sa.bindparam("of_client")))


async def usage(connection: AsyncConnection, client_id: int) -> Usage:
    """Return what the client stores now."""
    row = await _USAGE.one_or_none(connection, {"of_client": client_id})
    return Usage(row.storage_bytes, row.images) if row else Usage(0, 0)
