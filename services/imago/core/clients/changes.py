"""Changes of clients by administrators and the operator, each with a record in the audit log."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.clients import audit, keys
from imago.core.clients.audit import IMAGO, Actor, AuditAction
from imago.core.clients.key_registry import insert_key
from imago.core.clients.keys import ApiKey
from imago.core.clients.model import PLAN_LANES, Client, Pipeline, Plan
from imago.core.clients.ownership import OPERATOR, require_not_erasing, require_owner
from imago.core.clients.queries import client_from, matches
from imago.core.clients.scopes import Scope
from imago.core.errors import NotFound
from imago.core.lanes.model import resolve_lane
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.tables import client_usage, clients


@dataclass(frozen=True)
class NewClient:
    """A client to create; `limits` holds only what differs from the plan's."""

    name: str
    plan: Plan
    scopes: frozenset[Scope]
    limits: Mapping[str, int | None]
    pipeline: Pipeline
    uuid: UUID | None = None
    managed_by: str | None = None
    owner: str | None = None


@dataclass(frozen=True)
class ClientPatch:
    """The fields of a client to change; None leaves a field as it is.

    `limits` are merged; a limit of None is reset to the plan's. An empty `owner` takes the client from the operator.
    """

    name: str | None = None
    plan: Plan | None = None
    scopes: frozenset[Scope] | None = None
    limits: Mapping[str, int | None] | None = None
    lane: str | None = None
    pipeline: Mapping[str, Any] | None = None
    owner: str | None = None
    active: bool | None = None


@dataclass(frozen=True)
class ClientChange:
    """A client after a change, and the lane it had before."""

    client: Client
    lane_before: str | None = None
    created: bool = False


async def create_client(db: Database, new: NewClient, *, key: ApiKey, pepper: str, by: Actor = IMAGO) -> Client:
    """Create a client with its first key, of which only the digest is stored."""
    async with db.write(SYSTEM) as connection:
        client = await _insert(connection, new, lane=PLAN_LANES[new.plan])
        details = {"plan": str(new.plan), "key_id": key.key_id}
        await audit.record(connection, by, AuditAction.CLIENT_CREATED, client=client.uuid, details=details)
        await insert_key(connection, client.id, key_id=key.key_id, digest=keys.digest_at_rest(key.wire_digest, pepper))
    return client


async def patch_client(db: Database, ref: int | UUID, patch: ClientPatch, *, by: Actor) -> ClientChange:
    """Change a client; raise NotFound, and Conflict while it is being erased."""
    async with db.write(SYSTEM) as connection:
        row = await _locked(connection, ref)
        if row is None:
            raise NotFound("No such client.")
        require_not_erasing(row.erase_requested_at)
        changed = await _update(connection, row.id, _patched_columns(row, patch))
        names = sorted(field.name for field in fields(patch) if getattr(patch, field.name) is not None)
        details: dict[str, Any] = {"fields": names}
        action = AuditAction.CLIENT_CHANGED
        if patch.owner is not None:
            action = AuditAction.CLIENT_TRANSFERRED
            details |= {"owner": patch.owner or None, "previous_owner": row.owner}
        await audit.record(connection, by, action, client=row.uuid, details=details)
        return ClientChange(changed, lane_before=row.lane)


async def put_client(
    db: Database, new: NewClient, *, uuid: UUID, owner: str, lane: str | None, active: bool, by: Actor
) -> ClientChange:
    """Create the owner's client with this uuid, or replace it; a deactivated client is reactivated.

    Raises ClientOwned if the client belongs to another owner, and Conflict while it is being erased.
    """
    wanted_lane = resolve_lane(lane or "", plan_lane=PLAN_LANES[new.plan], client=uuid)
    async with db.write(SYSTEM) as connection:
        await _lock_uuid(connection, db, uuid)
        row = await _locked(connection, uuid)
        if row is None:
            client = await _insert(connection, new, lane=wanted_lane, active=active)
            await audit.record(connection, by, AuditAction.CLIENT_CREATED, client=uuid, details={"owner": owner})
            return ClientChange(client, created=True)
        require_owner(row.owner, owner)
        require_not_erasing(row.erase_requested_at)
        columns = _replaced_columns(row, new, lane=wanted_lane, active=active)
        changes = {name: value for name, value in columns.items() if getattr(row, name) != value}
        if not changes:
            # The operator repeats its requests by design; one that changes nothing is not an administrative action.
            return ClientChange(client_from(row), lane_before=row.lane)
        changed = await _update(connection, row.id, changes)
        await audit.record(
            connection, by, AuditAction.CLIENT_REPLACED, client=uuid, details={"fields": sorted(changes)}
        )
        return ClientChange(changed, lane_before=row.lane)


async def deactivate_client(db: Database, ref: int | UUID, *, by: Actor) -> None:
    """Deactivate a client: its keys are rejected, and its data stays; raise NotFound."""
    async with db.write(SYSTEM) as connection:
        row = await _locked(connection, ref)
        if row is None:
            raise NotFound("No such client.")
        if row.active:
            await _update(connection, row.id, {"active": False, "deactivated_at": utc_now()})
            await audit.record(connection, by, AuditAction.CLIENT_DEACTIVATED, client=row.uuid)


def _patched_columns(row: sa.Row[Any], patch: ClientPatch) -> dict[str, Any]:
    plan = patch.plan or Plan(row.plan)
    columns: dict[str, Any] = {"plan": plan}
    if patch.name is not None:
        columns["name"] = patch.name
    if patch.scopes is not None:
        columns["scopes"] = sorted(patch.scopes)
    if patch.limits is not None:
        columns["limits"] = _limit_overrides({**row.limits, **patch.limits})
    if patch.pipeline is not None:
        columns |= _pipeline_columns(patch.pipeline)
    if patch.lane is not None:
        columns["lane"] = resolve_lane(patch.lane, plan_lane=PLAN_LANES[plan], client=row.uuid)
    elif plan != row.plan and row.lane == PLAN_LANES[Plan(row.plan)]:
        # A client in its plan's lane follows the plan; a chosen lane stays.
        columns["lane"] = PLAN_LANES[plan]
    if patch.owner is not None:
        columns |= {"owner": patch.owner or None, "managed_by": OPERATOR if patch.owner else None}
    if patch.active is not None:
        columns |= {"active": patch.active, "deactivated_at": None if patch.active else utc_now()}
    return columns


def _replaced_columns(row: sa.Row[Any], new: NewClient, *, lane: str, active: bool) -> dict[str, Any]:
    return {
        "name": new.name,
        "plan": new.plan,
        "scopes": sorted(new.scopes),
        "limits": _limit_overrides(new.limits),
        "lane": lane,
        **_pipeline_columns(new.pipeline.to_json()),
        "managed_by": "operator",
        "active": active,
        "deactivated_at": None if active else row.deactivated_at or utc_now(),
    }


def _limit_overrides(limits: Mapping[str, int | None]) -> dict[str, int]:
    return {name: value for name, value in limits.items() if value is not None}


_PIPELINE_COLUMNS = frozenset(field.name for field in fields(Pipeline))


def _pipeline_columns(pipeline: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in pipeline.items() if name in _PIPELINE_COLUMNS}


async def _locked(connection: AsyncConnection, ref: int | UUID) -> sa.Row[Any] | None:
    # NO KEY UPDATE, which does not block uploads: they lock the row with their foreign keys.
    query = sa.select(clients).where(matches(ref)).with_for_update(key_share=True)
    return (await connection.execute(query)).one_or_none()


async def _lock_uuid(connection: AsyncConnection, db: Database, uuid: UUID) -> None:
    """Serialize concurrent creations of one client, which have no row to lock yet."""
    if not db.is_sqlite:
        # The lock's key is 64 bits of the uuid; two clients that share them only wait for each other.
        number = int.from_bytes(uuid.bytes[:8], "big", signed=True)
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))


async def _update(connection: AsyncConnection, client_id: int, columns: Mapping[str, Any]) -> Client:
    query = sa.update(clients).where(clients.c.id == client_id).values(**columns, updated_at=utc_now())
    return client_from((await connection.execute(query.returning(clients))).one())


async def _insert(connection: AsyncConnection, new: NewClient, *, lane: str, active: bool = True) -> Client:
    now = utc_now()
    query = sa.insert(clients).values(
        uuid=new.uuid or uuid4(),
        name=new.name,
        plan=new.plan,
        scopes=sorted(new.scopes),
        limits=_limit_overrides(new.limits),
        lane=lane,
        **_pipeline_columns(new.pipeline.to_json()),
        managed_by=new.managed_by,
        owner=new.owner,
        active=active,
        deactivated_at=None if active else now,
        created_at=now,
        updated_at=now,
    )
    row = (await connection.execute(query.returning(clients))).one()
    await connection.execute(sa.insert(client_usage).values(client_id=row.id, storage_bytes=0, images=0))
    return client_from(row)
