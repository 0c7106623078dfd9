"""Clients' keys in the database: stored as digests, registered, rotated and revoked."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.clients import audit, keys
from imago.core.clients.audit import Actor, AuditAction
from imago.core.clients.keys import ApiKey
from imago.core.clients.model import Client
from imago.core.clients.ownership import require_not_erasing
from imago.core.clients.queries import client_from, matches
from imago.core.errors import Conflict, NotFound
from imago.core.times import iso_utc, utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.tables import api_keys, clients


@dataclass(frozen=True, repr=False)
class StoredKey:
    """A key's digest with the client that it belongs to."""

    key_id: str
    digest: bytes
    expires_at: datetime | None
    revoked_at: datetime | None
    client: Client

    def usable(self, now: datetime) -> bool:
        """Return whether the key is accepted at this moment."""
        return (
            self.client.active
            # At any time, because another process's clock may be ahead.
            and self.revoked_at is None
            and (self.expires_at is None or self.expires_at > now)
        )


@dataclass(frozen=True)
class KeyInfo:
    """A key without its digest."""

    key_id: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True)
class KeyRegistration:
    """A key to register; without a digest, only the expiry of a key that the client already has changes."""

    key_id: str
    digest: bytes | None
    expires_at: datetime | None


async def find_key(db: Database, key_id: str) -> StoredKey | None:
    """Return a key and its client by the key's id, usable or not; None if the id is unknown."""
    query = (
        sa.select(clients, api_keys.c.key_id, api_keys.c.digest, api_keys.c.expires_at, api_keys.c.revoked_at)
        .join(clients, clients.c.id == api_keys.c.client_id)
        .where(api_keys.c.key_id == key_id)
    )
    async with db.read(SYSTEM) as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    return StoredKey(row.key_id, bytes(row.digest), row.expires_at, row.revoked_at, client_from(row))


async def list_keys(db: Database, client_id: int) -> list[KeyInfo]:
    """Return a client's keys, oldest first."""
    query = sa.select(api_keys).where(api_keys.c.client_id == client_id).order_by(api_keys.c.id)
    async with db.read(SYSTEM) as connection:
        return [_key_info(row) for row in await connection.execute(query)]


async def insert_key(
    connection: AsyncConnection, client_id: int, *, key_id: str, digest: bytes, expires_at: datetime | None = None
) -> None:
    """Insert a key's digest at rest in the caller's transaction."""
    await connection.execute(
        sa.insert(api_keys).values(
            key_id=key_id, client_id=client_id, digest=digest, created_at=utc_now(), expires_at=expires_at
        )
    )


async def register_key(db: Database, client_id: int, key: KeyRegistration, *, by: Actor) -> tuple[KeyInfo, bool]:
    """Register a key, or change the expiry of a registered one; return it, and whether it is new.

    Raises NotFound if the client does not exist or, without a digest, has no such key. Raises Conflict if the id
    belongs to another client or another secret (it does not say which), or if the key was revoked.
    """
    async with db.write(SYSTEM) as connection:
        # Locked until the commit, because a concurrent erasure may delete the client.
        query = sa.select(clients.c.uuid).where(clients.c.id == client_id).with_for_update(read=True, key_share=True)
        client = await connection.scalar(query)
        if client is None:
            raise NotFound("No such client.")
        of_key = sa.select(api_keys).where(api_keys.c.key_id == key.key_id).with_for_update()
        row = (await connection.execute(of_key)).one_or_none()
        created = False
        if row is None and key.digest is not None:
            created = True
            await _insert_registered(connection, client_id, key, digest=key.digest)
            await audit.record(
                connection, by, AuditAction.KEY_REGISTERED, client=client, details={"key_id": key.key_id}
            )
        else:
            registered = _require_same_key(row, client_id, key)
            if registered.expires_at != key.expires_at:
                await _change_expiry(connection, registered.id, key, client=client, by=by)
        return _key_info((await connection.execute(of_key)).one()), created


async def _insert_registered(
    connection: AsyncConnection, client_id: int, key: KeyRegistration, *, digest: bytes
) -> None:
    # The unique index on the id decides between concurrent registrations.
    try:
        async with connection.begin_nested():
            await insert_key(connection, client_id, key_id=key.key_id, digest=digest, expires_at=key.expires_at)
    except sa.exc.IntegrityError:
        raise Conflict("The key's id is taken.") from None


def _require_same_key(row: sa.Row[Any] | None, client_id: int, key: KeyRegistration) -> sa.Row[Any]:
    if row is None or (key.digest is None and row.client_id != client_id):
        raise NotFound("No such key.")
    same_secret = key.digest is None or keys.digests_equal(bytes(row.digest), key.digest)
    if row.client_id != client_id or not same_secret:
        raise Conflict("The key's id is taken.")
    if row.revoked_at is not None:
        raise Conflict("The key was revoked; register another one.")
    return row


async def _change_expiry(
    connection: AsyncConnection, row_id: int, key: KeyRegistration, *, client: UUID, by: Actor
) -> None:
    await connection.execute(sa.update(api_keys).where(api_keys.c.id == row_id).values(expires_at=key.expires_at))
    details = {"key_id": key.key_id, "expires_at": iso_utc(key.expires_at) if key.expires_at else None}
    await audit.record(connection, by, AuditAction.KEY_CHANGED, client=client, details=details)


async def revoke_key(db: Database, client_id: int, key_id: str, *, by: Actor) -> None:
    """Revoke a key permanently; raise NotFound if the client has no such key."""
    async with db.write(SYSTEM) as connection:
        query = (
            sa.select(api_keys, clients.c.uuid)
            .join(clients, clients.c.id == api_keys.c.client_id)
            .where(api_keys.c.key_id == key_id, api_keys.c.client_id == client_id)
            .with_for_update(of=api_keys)
        )
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise NotFound("No such key.")
        if row.revoked_at is None:
            await connection.execute(sa.update(api_keys).where(api_keys.c.id == row.id).values(revoked_at=utc_now()))
            await audit.record(connection, by, AuditAction.KEY_REVOKED, client=row.uuid, details={"key_id": key_id})


async def rotate_key(
    db: Database, ref: int | UUID, *, key: ApiKey, pepper: str, grace: timedelta, by: Actor
) -> datetime:
    """Add a key and let the client's other keys expire after the grace period; return when they do.

    A key that expires sooner keeps its expiry. Raises NotFound, and Conflict while the client is being erased.
    """
    async with db.write(SYSTEM) as connection:
        query = sa.select(clients).where(matches(ref)).with_for_update(key_share=True)
        client = (await connection.execute(query)).one_or_none()
        if client is None:
            raise NotFound("No such client.")
        require_not_erasing(client.erase_requested_at)
        until = utc_now() + grace
        await connection.execute(
            sa.update(api_keys)
            .where(
                api_keys.c.client_id == client.id,
                api_keys.c.revoked_at.is_(None),
                sa.or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > until),
            )
            .values(expires_at=until)
        )
        digest = keys.digest_at_rest(key.wire_digest, pepper)
        await insert_key(connection, client.id, key_id=key.key_id, digest=digest)
        details = {"key_id": key.key_id, "previous_expires_at": iso_utc(until)}
        await audit.record(connection, by, AuditAction.KEY_ROTATED, client=client.uuid, details=details)
        return until


async def record_uses(db: Database, uses: Mapping[str, datetime]) -> None:
    """Record when keys were last used; a later time in the database stays."""
    async with db.write(SYSTEM) as connection:
        # Always in the same order, so that two processes cannot deadlock.
        for key_id, at in sorted(uses.items()):
            await connection.execute(
                sa.update(api_keys)
                .where(
                    api_keys.c.key_id == key_id,
                    sa.or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < at),
                )
                .values(last_used_at=at)
            )


def _key_info(row: sa.Row[tuple[object, ...]]) -> KeyInfo:
    return KeyInfo(row.key_id, row.created_at, row.expires_at, row.revoked_at, row.last_used_at)
