"""The keys of clients: registered by digest, rotated, revoked, and when they were last used."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from imago.core.clients import audit, keys
from imago.core.clients.audit_model import Action, Actor
from imago.core.clients.keys import ApiKey
from imago.core.clients.queries import add_key, matches
from imago.core.errors import Conflict, NotFound
from imago.core.times import iso_utc, utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.tables import api_keys, clients


@dataclass(frozen=True)
class KeyState:
    """A key without anything secret."""

    key_id: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


async def list_keys(db: Database, client_id: int) -> list[KeyState]:
    """Return a client's keys, the oldest first."""
    query = sa.select(api_keys).where(api_keys.c.client_id == client_id).order_by(api_keys.c.id)
    async with db.read(SYSTEM) as connection:
        return [_state(row) for row in await connection.execute(query)]


async def register_key(
    db: Database, client_id: int, *, key_id: str, digest: bytes | None, expires_at: datetime | None, by: Actor
) -> tuple[KeyState, bool]:
    """Store a key's digest at rest, or change when it expires; return it, and whether it is new.

    Without a digest a key that the client has already is meant: raises NotFound where it has none of that id, and where
    there is no such client any more. Raises Conflict where the id is another client's or another secret's (which, it
    doesn't say), or was revoked.
    """
    async with db.write(SYSTEM) as connection:
        # Kept until the commit: an erasure that ends meanwhile takes the client away.
        of_client = sa.select(clients).where(clients.c.id == client_id).with_for_update(read=True, key_share=True)
        client = (await connection.execute(of_client)).one_or_none()
        if client is None:
            raise NotFound("No such client.")
        # The unique key on the id decides between two that register it at once.
        query = sa.select(api_keys).where(api_keys.c.key_id == key_id).with_for_update()
        row = (await connection.execute(query)).one_or_none()
        if row is None and digest is not None:
            try:
                async with connection.begin_nested():
                    await add_key(connection, client_id, key_id=key_id, digest=digest, expires_at=expires_at)
            except sa.exc.IntegrityError:
                raise Conflict("The key's id is taken.") from None
            await audit.record(connection, by, Action.KEY_REGISTERED, client=client.uuid, details={"key_id": key_id})
            return _state((await connection.execute(query)).one()), True
        if row is None or (digest is None and row.client_id != client_id):
            raise NotFound("No such key.")
        same = digest is None or keys.digests_equal(bytes(row.digest), digest)
        if row.client_id != client_id or not same:
            raise Conflict("The key's id is taken.")
        if row.revoked_at is not None:
            raise Conflict("The key was revoked; register another one.")
        if row.expires_at != expires_at:
            await connection.execute(sa.update(api_keys).where(api_keys.c.id == row.id).values(expires_at=expires_at))
            details = {"key_id": key_id, "expires_at": iso_utc(expires_at) if expires_at else None}
            await audit.record(connection, by, Action.KEY_CHANGED, client=client.uuid, details=details)
        return _state((await connection.execute(query)).one()), False


async def revoke_key(db: Database, client_id: int, key_id: str, *, by: Actor) -> None:
    """Revoke a key now and for good; raise NotFound where the client has no such key."""
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
            await audit.record(connection, by, Action.KEY_REVOKED, client=row.uuid, details={"key_id": key_id})


async def rotate_key(
    db: Database, ref: int | UUID, *, key: ApiKey, pepper: str, grace: timedelta, by: Actor
) -> datetime:
    """Give a client another key, and let the ones it has expire after the grace; return when they do.

    A key that expires sooner keeps its time. Raises NotFound, and Conflict while the client is being erased.
    """
    async with db.write(SYSTEM) as connection:
        query = sa.select(clients).where(matches(ref)).with_for_update(key_share=True)
        client = (await connection.execute(query)).one_or_none()
        if client is None:
            raise NotFound("No such client.")
        if client.erase_requested_at is not None:
            raise Conflict("The client is being erased.")
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
        await add_key(connection, client.id, key_id=key.key_id, digest=digest)
        details = {"key_id": key.key_id, "previous_expires_at": iso_utc(until)}
        await audit.record(connection, by, Action.KEY_ROTATED, client=client.uuid, details=details)
        return until


async def note_uses(db: Database, uses: Mapping[str, datetime]) -> None:
    """Write down when keys were last used; later times stay."""
    async with db.write(SYSTEM) as connection:
        # In one order, so that two processes never wait for each other in a circle.
        for key_id, at in sorted(uses.items()):
            await connection.execute(
                sa.update(api_keys)
                .where(
                    api_keys.c.key_id == key_id,
                    sa.or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < at),
                )
                .values(last_used_at=at)
            )


def _state(row: sa.Row[tuple[object, ...]]) -> KeyState:
    return KeyState(row.key_id, row.created_at, row.expires_at, row.revoked_at, row.last_used_at)
