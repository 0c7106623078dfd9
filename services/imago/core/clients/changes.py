"""What administrators and the operator change about clients; every act stands in the audit log."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.clients import audit
from imago.core.clients.audit_model import Action, Actor
from imago.core.clients.model import PLAN_LANES, Client, Pipeline, Plan
from imago.core.clients.ownership import refuse_foreign, refuse_while_erasing
from imago.core.clients.queries import NewClient, client_of, insert_client, matches
from imago.core.clients.scopes import Scope
from imago.core.errors import NotFound
from imago.core.lanes.model import resolve_lane
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.tables import clients


@dataclass(frozen=True)
class ClientPatch:
    """What to change of a client; None leaves it. `limits` are merged, a limit of None goes back to the plan's."""

    name: str | None = None
    plan: Plan | None = None
    scopes: frozenset[Scope] | None = None
    limits: Mapping[str, int | None] | None = None
    lane: str | None = None
    pipeline: Mapping[str, Any] | None = None
    owner: str | None = None
    active: bool | None = None


@dataclass(frozen=True)
class Changed:
    """A client after a change, and the lane it had before."""

    client: Client
    lane_before: str | None = None
    created: bool = False


async def patch_client(db: Database, ref: int | UUID, patch: ClientPatch, *, by: Actor) -> Changed:
    """Change a client; raise NotFound, and Conflict while it is being erased."""
    async with db.write(SYSTEM) as connection:
        row = await _locked(connection, ref)
        if row is None:
            raise NotFound("No such client.")
        refuse_while_erasing(row.erase_requested_at)
        plan = patch.plan or Plan(row.plan)
        values: dict[str, Any] = {"plan": plan, "updated_at": utc_now()}
        if patch.name is not None:
            values["name"] = patch.name
        if patch.scopes is not None:
            values["scopes"] = sorted(patch.scopes)
        if patch.limits is not None:
            merged = {**row.limits, **patch.limits}
            values["limits"] = {name: value for name, value in merged.items() if value is not None}
        if patch.pipeline is not None:
            values |= _pipeline_values(patch.pipeline)
        if patch.lane is not None:
            values["lane"] = resolve_lane(patch.lane, plan_lane=PLAN_LANES[plan], client=row.uuid)
        elif plan != row.plan and row.lane == PLAN_LANES[Plan(row.plan)]:
            # Who had the plan's lane gets the new plan's; a lane that was chosen stays.
            values["lane"] = PLAN_LANES[plan]
        if patch.active is not None:
            values |= {"active": patch.active, "deactivated_at": None if patch.active else utc_now()}
        action = Action.CLIENT_CHANGED
        if patch.owner is not None:
            values |= {"owner": patch.owner, "managed_by": "operator"}
            action = Action.CLIENT_TRANSFERRED
        changed = await _update(connection, row.id, values)
        details = {field.name for field in fields(patch) if getattr(patch, field.name) is not None}
        await audit.record(connection, by, action, client=row.uuid, details={"fields": sorted(details)})
        return Changed(changed, lane_before=row.lane)


async def put_client(
    db: Database, new: NewClient, *, uuid: UUID, owner: str, lane: str | None, active: bool, by: Actor
) -> Changed:
    """Create the owner's client under its uuid, or make it what is given; a client that was deactivated comes back.

    Raises ClientOwned where the client is another owner's, and Conflict while it is being erased.
    """
    wanted = resolve_lane(lane or "", plan_lane=PLAN_LANES[new.plan], client=uuid)
    async with db.write(SYSTEM) as connection:
        await _reserve(connection, db, uuid)
        row = await _locked(connection, uuid)
        if row is None:
            client = await insert_client(connection, new, lane=wanted, active=active)
            await audit.record(connection, by, Action.CLIENT_CREATED, client=uuid, details={"owner": owner})
            return Changed(client, created=True)
        refuse_foreign(row.owner, owner)
        refuse_while_erasing(row.erase_requested_at)
        values = {
            "name": new.name,
            "plan": new.plan,
            "scopes": sorted(new.scopes),
            "limits": {name: value for name, value in new.limits.items() if value is not None},
            "lane": wanted,
            **_pipeline_values(new.pipeline.to_json()),
            "managed_by": "operator",
            "active": active,
            "deactivated_at": None if active else row.deactivated_at or utc_now(),
        }
        before = {name: getattr(row, name) for name in values}
        fresh = {name: value for name, value in values.items() if before[name] != value}
        if not fresh:
            # The operator repeats itself by design; what changes nothing is no act.
            return Changed(client_of(row), lane_before=row.lane)
        changed = await _update(connection, row.id, {**fresh, "updated_at": utc_now()})
        await audit.record(connection, by, Action.CLIENT_REPLACED, client=uuid, details={"fields": sorted(fresh)})
        return Changed(changed, lane_before=row.lane)


async def deactivate_client(db: Database, ref: int | UUID, *, by: Actor) -> None:
    """Deactivate a client: its keys open nothing any more, and nothing of it is deleted; raise NotFound."""
    async with db.write(SYSTEM) as connection:
        row = await _locked(connection, ref)
        if row is None:
            raise NotFound("No such client.")
        if row.active:
            await _update(connection, row.id, {"active": False, "deactivated_at": utc_now(), "updated_at": utc_now()})
            await audit.record(connection, by, Action.CLIENT_DEACTIVATED, client=row.uuid)


async def _locked(connection: AsyncConnection, ref: int | UUID) -> sa.Row[Any] | None:
    # Uploads look at the row and hold it by their foreign keys; NO KEY UPDATE doesn't stand in their way.
    query = sa.select(clients).where(matches(ref)).with_for_update(key_share=True)
    return (await connection.execute(query)).one_or_none()


async def _reserve(connection: AsyncConnection, db: Database, uuid: UUID) -> None:
    """Let two creations of one client queue up: there is no row yet that they could lock."""
    if not db.is_sqlite:
        # The key is 64 bits of the uuid; two clients that share them wait for each other, and no more.
        number = int.from_bytes(uuid.bytes[:8], "big", signed=True)
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))


async def _update(connection: AsyncConnection, client_id: int, values: Mapping[str, Any]) -> Client:
    query = sa.update(clients).where(clients.c.id == client_id).values(**values).returning(clients)
    return client_of((await connection.execute(query)).one())


def _pipeline_values(pipeline: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in pipeline.items() if name in _PIPELINE_COLUMNS}


_PIPELINE_COLUMNS = frozenset(field.name for field in fields(Pipeline))
