"""Idempotency-Keys: a request that is sent twice under one key has one effect and one answer (DESIGN, section 6).

Who holds a key's lease may act under it. A holder that dies lets it run out, and another request takes it over; the
token then differs, and a late commit of the first holder is refused.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.errors import IdempotencyInFlight
from imago.core.times import utc_now
from imago.db.engine import Database, RowScope
from imago.db.tables import idempotency_keys

# The row between a refused claim and the look at it may be given up by its holder; then the claim is tried again.
_CLAIM_TRIES = 5


@dataclass(frozen=True)
class KeyLease:
    """The right to act under a key."""

    client_id: int
    key: str
    token: UUID


@dataclass(frozen=True)
class FirstAnswer:
    """What was answered to the first request under a key, and what that request was."""

    fingerprint: str
    answer: dict[str, Any]


@dataclass(frozen=True)
class Completion:
    """What the transaction that acts under a key notes beside it; `ttl` is how long the answer is kept."""

    held: KeyLease
    fingerprint: str
    ttl: timedelta


async def claim_key(
    db: Database, client_id: int, key: str, *, lease: timedelta, ttl: timedelta
) -> KeyLease | FirstAnswer:
    """Take a key's lease, or return the answer that was given under it; raise IdempotencyInFlight."""
    insert = sqlite.insert if db.is_sqlite else postgresql.insert
    for _ in range(_CLAIM_TRIES):
        now, token = utc_now(), uuid4()
        fresh = {
            "token": token,
            "lease_until": now + lease,
            "fingerprint": None,
            "response": None,
            "created_at": now,
            "expires_at": now + ttl,
        }
        statement = insert(idempotency_keys).values(client_id=client_id, key=key, **fresh)
        statement = statement.on_conflict_do_update(
            index_elements=[idempotency_keys.c.client_id, idempotency_keys.c.key],
            set_=fresh,
            where=sa.or_(
                idempotency_keys.c.expires_at < now,
                sa.and_(idempotency_keys.c.fingerprint.is_(None), idempotency_keys.c.lease_until < now),
            ),
        )
        async with db.write(RowScope(client_id)) as connection:
            if (await connection.execute(statement)).rowcount == 1:
                return KeyLease(client_id, key, token)
            row = (await connection.execute(sa.select(idempotency_keys).where(*_is(client_id, key)))).one_or_none()
        if row is None:
            continue
        if row.fingerprint is not None:
            return FirstAnswer(row.fingerprint, row.response)
        remaining = (row.lease_until - now).total_seconds()
        raise IdempotencyInFlight(
            "Another request with this Idempotency-Key is under way.", retry_after=max(1.0, remaining)
        )
    raise IdempotencyInFlight("Other requests with this Idempotency-Key are under way.", retry_after=1.0)


async def renew_key(db: Database, held: KeyLease, *, lease: timedelta) -> bool:
    """Hold a key for longer; False where it is another's by now."""
    async with db.write(RowScope(held.client_id)) as connection:
        renewed = await connection.execute(
            sa.update(idempotency_keys).where(*_mine(held)).values(lease_until=utc_now() + lease)
        )
    return renewed.rowcount == 1


async def release_key(db: Database, held: KeyLease) -> None:
    """Give a key back under which nothing was done; one whose answer is noted, or that is another's, is left alone."""
    async with db.write(RowScope(held.client_id)) as connection:
        await connection.execute(sa.delete(idempotency_keys).where(*_mine(held)))


async def complete_key(connection: AsyncConnection, done: Completion, answer: dict[str, Any]) -> None:
    """Note the answer in the transaction that it tells of; raise IdempotencyInFlight where the key is another's now."""
    noted = await connection.execute(
        sa.update(idempotency_keys)
        .where(*_mine(done.held))
        .values(fingerprint=done.fingerprint, response=answer, lease_until=None, expires_at=utc_now() + done.ttl)
    )
    if noted.rowcount != 1:
        raise IdempotencyInFlight("Another request took this Idempotency-Key over.", retry_after=1.0)


def _is(client_id: int, key: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (idempotency_keys.c.client_id == client_id, idempotency_keys.c.key == key)


def _mine(held: KeyLease) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        *_is(held.client_id, held.key),
        idempotency_keys.c.token == held.token,
        idempotency_keys.c.fingerprint.is_(None),
    )
