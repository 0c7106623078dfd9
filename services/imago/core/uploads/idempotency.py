"""Idempotency-Keys: a request that is repeated under one key has one effect and one response.

A request must hold the lease on its key to act under it. If it dies, the lease expires and another request takes the
key over with a new token; a late commit under the old token is rejected.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.errors import IdempotencyInFlight
from imago.core.times import utc_now
from imago.db.engine import Database, RowScope
from imago.db.tables import idempotency_keys

# The INSERT is repeated if the key was released between the INSERT and the SELECT.
_MAX_ATTEMPTS = 5


@dataclass(frozen=True)
class KeyLease:
    """The right to act under a key."""

    client_id: int
    key: str
    token: UUID


@dataclass(frozen=True)
class FirstResponse:
    """The response to the first request under a key, and that request's fingerprint."""

    fingerprint: str
    response: dict[str, Any]


@dataclass(frozen=True)
class Completion:
    """The completion of a request under a key, whose response is kept for `ttl`."""

    lease: KeyLease
    fingerprint: str
    ttl: timedelta


async def acquire_key(
    db: Database, client_id: int, key: str, *, lease: timedelta, ttl: timedelta
) -> KeyLease | FirstResponse:
    """Return the lease on a key, or the response to the first request under it; raise IdempotencyInFlight."""
    for _ in range(_MAX_ATTEMPTS):
        now, token = utc_now(), uuid4()
        async with db.write(RowScope(client_id)) as connection:
            statement = _acquire(connection.dialect.name, client_id, key, token, now=now, lease=lease, ttl=ttl)
            if (await connection.execute(statement)).rowcount == 1:
                return KeyLease(client_id, key, token)
            row = (await connection.execute(sa.select(idempotency_keys).where(*_is(client_id, key)))).one_or_none()
        if row is None:
            continue
        if row.fingerprint is not None:
            return FirstResponse(row.fingerprint, row.response)
        remaining = (row.lease_until - now).total_seconds()
        raise IdempotencyInFlight(
            "Another request with this Idempotency-Key is in progress.", retry_after=max(1.0, remaining)
        )
    raise IdempotencyInFlight("Other requests with this Idempotency-Key are in progress.", retry_after=1.0)


def _acquire(
    dialect: str, client_id: int, key: str, token: UUID, *, now: datetime, lease: timedelta, ttl: timedelta
) -> sa.Insert:
    """Return the statement that inserts a key, or takes it over if the key or its lease has expired."""
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    values = {
        "token": token,
        "lease_until": now + lease,
        "fingerprint": None,
        "response": None,
        "created_at": now,
        "expires_at": now + ttl,
    }
    lease_expired = sa.and_(idempotency_keys.c.fingerprint.is_(None), idempotency_keys.c.lease_until < now)
    return (
        insert(idempotency_keys)
        .values(client_id=client_id, key=key, **values)
        .on_conflict_do_update(
            index_elements=[idempotency_keys.c.client_id, idempotency_keys.c.key],
            set_=values,
            where=sa.or_(idempotency_keys.c.expires_at < now, lease_expired),
        )
    )


async def renew_key(db: Database, held: KeyLease, *, lease: timedelta) -> bool:
    """Extend the lease on a key; return False if another request took the key over."""
    async with db.write(RowScope(held.client_id)) as connection:
        renewed = await connection.execute(
            sa.update(idempotency_keys).where(*_is_held_by(held)).values(lease_until=utc_now() + lease)
        )
    return renewed.rowcount == 1


async def release_key(db: Database, held: KeyLease) -> None:
    """Release a key, unless its request was completed or another request took it over."""
    async with db.write(RowScope(held.client_id)) as connection:
        await connection.execute(sa.delete(idempotency_keys).where(*_is_held_by(held)))


async def complete_key(connection: AsyncConnection, completion: Completion, response: dict[str, Any]) -> None:
    """Store the response in the request's transaction; raise IdempotencyInFlight if the key was taken over."""
    updated = await connection.execute(
        sa.update(idempotency_keys)
        .where(*_is_held_by(completion.lease))
        .values(
            fingerprint=completion.fingerprint,
            response=response,
            lease_until=None,
            expires_at=utc_now() + completion.ttl,
        )
    )
    if updated.rowcount != 1:
        raise IdempotencyInFlight("Another request took over this Idempotency-Key.", retry_after=1.0)


def _is(client_id: int, key: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (idempotency_keys.c.client_id == client_id, idempotency_keys.c.key == key)


def _is_held_by(held: KeyLease) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        *_is(held.client_id, held.key),
        idempotency_keys.c.token == held.token,
        idempotency_keys.c.fingerprint.is_(None),
    )
