"""Clients and their keys, for the administrator and for the operator."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from aiohttp import web

from imago.api.answers import json_answer
from imago.api.auth.permissions import ADMIN, ADMIN_OR_MANAGER, MANAGER, access
from imago.api.clients import shapes as client_shapes
from imago.api.clients.answer_schemas import (
    ClientDetailAnswer,
    ClientsAnswer,
    KeyAnswer,
    NewClientAnswer,
    RotatedAnswer,
)
from imago.api.clients.request_schemas import (
    ClientsQuery,
    EraseQuery,
    KeyBody,
    NewClientBody,
    OwnerQuery,
    PatchClientBody,
    PutClientBody,
    RotateBody,
)
from imago.api.openapi.decorators import documented, reads_json, reads_query
from imago.api.paging import decode_id, encode_cursor
from imago.api.request_context import PRINCIPAL, actor_of
from imago.api.request_schemas import entity_ref
from imago.api.services import CLIENTS, DATABASE, SETTINGS
from imago.core.ai_usage.ledger import get_ai_usage
from imago.core.ai_usage.model import BudgetPolicy
from imago.core.clients import keys
from imago.core.clients.changes import (
    ClientChange,
    ClientPatch,
    NewClient,
    create_client,
    deactivate_client,
    patch_client,
    put_client,
)
from imago.core.clients.key_registry import KeyRegistration, list_keys, register_key, revoke_key, rotate_key
from imago.core.clients.model import PLAN_LANES, Client, Pipeline, Plan
from imago.core.clients.ownership import OPERATOR, managed_by_operator, require_owner
from imago.core.clients.queries import ClientRow, get_client_row, get_usage, list_clients
from imago.core.clients.scopes import CLIENT_SCOPES, Scope, parse_client_scopes
from imago.core.erasure import request_erasure
from imago.core.errors import ClientOwned, Conflict, NotFound, Unavailable, Unprocessable
from imago.core.jobs.lane_moves import count_left_behind
from imago.core.jobs.stages import Stage
from imago.core.lanes.model import resolve_lane
from imago.db.engine import Database

routes = web.RouteTableDef()


@routes.post("/auth/clients")
@documented(
    tag="auth",
    summary="Create a client",
    answers={201: (NewClientAnswer, "The client, and its key: the only time it is shown.")},
    problems=(Unprocessable,),
)
@reads_json(NewClientBody)
@access(ADMIN)
async def create(request: web.Request) -> web.Response:
    """Creates a client with the limits of its plan, and shows its first key once."""
    key, new = keys.generate(), _new_client(request["json"])
    client = await create_client(request.app[DATABASE], new, key=key, pepper=_pepper(request), by=actor_of(request))
    return json_answer({**client_shapes.client(client), "api_key": key.reveal()}, status=201)


@routes.get("/auth/clients", allow_head=False)
@documented(
    tag="auth",
    summary="List clients",
    answers={200: (ClientsAnswer, "A page of clients, the oldest first.")},
    problems=(Unprocessable,),
)
@reads_query(ClientsQuery)
@access(ADMIN)
async def clients(request: web.Request) -> web.Response:
    """Lists all clients, deactivated ones too."""
    query = request["querystring"]
    found, after = await list_clients(
        request.app[DATABASE],
        limit=query["limit"],
        after=decode_id(query.get("cursor")),
        active=query.get("active"),
        plan=Plan(query["plan"]) if "plan" in query else None,
    )
    cursor = None if after is None else encode_cursor(after)
    return json_answer({"items": [client_shapes.client(row) for row in found], "next_cursor": cursor})


@routes.get("/auth/clients/{id}", allow_head=False)
@documented(
    tag="auth",
    summary="Show a client",
    answers={200: (ClientDetailAnswer, "The client, its usage, its keys, its erasure.")},
    problems=(NotFound,),
)
@access(ADMIN_OR_MANAGER)
async def client(request: web.Request) -> web.Response:
    """Shows a client with its usage and its keys; while it is erased, how far that is."""
    return json_answer(await _detail(request.app[DATABASE], await _visible(request)))


@routes.patch("/auth/clients/{id}")
@documented(
    tag="auth",
    summary="Change a client",
    answers={200: (ClientDetailAnswer, "The client as it is now.")},
    problems=(NotFound, Conflict, Unprocessable),
)
@reads_json(PatchClientBody)
@access(ADMIN)
async def patch(request: web.Request) -> web.Response:
    """Changes a client; within seconds on every replica. Work that waits in a lane the client leaves is moved."""
    body, row = request["json"], await _visible(request)
    if "lane" in body:
        await _ensure_lane(request, body["lane"], row.client)
    wanted = ClientPatch(
        name=body.get("name"),
        plan=Plan(body["plan"]) if "plan" in body else None,
        scopes=parse_client_scopes(body["scopes"]) if "scopes" in body else None,
        limits=body.get("limits"),
        lane=body.get("lane"),
        pipeline=_unique(body["pipeline"]) if "pipeline" in body else None,
        owner=body.get("owner"),
        active=body.get("active"),
    )
    changed = await patch_client(request.app[DATABASE], row.client.id, wanted, by=actor_of(request))
    return json_answer(await _changed(request, changed))


@routes.delete("/auth/clients/{id}")
@documented(
    tag="auth",
    summary="Deactivate or erase a client",
    answers={
        202: (ClientDetailAnswer, "The erasure has begun; the client shows how far it is until it is gone."),
        204: (None, "The client is deactivated."),
    },
    problems=(ClientOwned, NotFound, Unprocessable),
)
@reads_query(EraseQuery)
@access(ADMIN_OR_MANAGER)
async def delete(request: web.Request) -> web.Response:
    """Deactivates a client, whose images stay; `erase=true` erases it with rows, objects, thumbnails and messages."""
    db, row = request.app[DATABASE], await _owned(request)
    if not request["querystring"]["erase"]:
        await deactivate_client(db, row.client.id, by=actor_of(request))
        return web.Response(status=204)
    await request_erasure(db, row.client.id, by=actor_of(request))
    return json_answer(await _detail(db, await _visible(request)), status=202)


@routes.put("/auth/clients/{id}")
@documented(
    tag="auth",
    summary="Create or replace the operator's client",
    answers={
        200: (ClientDetailAnswer, "The client as it is now."),
        201: (ClientDetailAnswer, "The client, created; its keys are registered apart."),
    },
    problems=(ClientOwned, Conflict, NotFound, Unprocessable),
)
@reads_json(PutClientBody)
@access(MANAGER)
async def put(request: web.Request) -> web.Response:
    """Makes the owner's client what is given, under a uuid of the caller's choice; repeating it changes nothing."""
    body, uuid = request["json"], _uuid(request)
    new = _new_client(body, uuid=uuid, owner=body["owner"])
    await _ensure_lane(request, body.get("lane", ""), uuid)
    changed = await put_client(
        request.app[DATABASE],
        new,
        uuid=uuid,
        owner=body["owner"],
        lane=body.get("lane"),
        active=body["active"],
        by=actor_of(request),
    )
    return json_answer(await _changed(request, changed), status=201 if changed.created else 200)


@routes.put("/auth/clients/{id}/keys/{key_id}")
@documented(
    tag="auth",
    summary="Register a key of the operator's client",
    answers={200: (KeyAnswer, "The key, as it is now."), 201: (KeyAnswer, "The key, registered.")},
    problems=(ClientOwned, NotFound, Conflict, Unprocessable),
)
@reads_json(KeyBody)
@reads_query(OwnerQuery)
@access(MANAGER)
async def put_key(request: web.Request) -> web.Response:
    """Registers a key by the SHA-256 of its secret, or changes when it expires; the secret itself never comes here."""
    row, key_id = await _owned(request), request.match_info["key_id"]
    if not keys.valid_key_id(key_id):
        raise NotFound("No such key.")
    sent = request["json"].get("sha256")
    digest = None if sent is None else keys.digest_at_rest(bytes.fromhex(sent), _pepper(request))
    registration = KeyRegistration(key_id, digest, request["json"].get("expires_at"))
    state, created = await register_key(request.app[DATABASE], row.client.id, registration, by=actor_of(request))
    return json_answer(client_shapes.key(state), status=201 if created else 200)


@routes.delete("/auth/clients/{id}/keys/{key_id}")
@documented(
    tag="auth",
    summary="Revoke a key of the operator's client",
    answers={204: (None, "The key opens nothing any more, within seconds on every replica.")},
    problems=(ClientOwned, NotFound, Unprocessable),
)
@reads_query(OwnerQuery)
@access(MANAGER)
async def delete_key(request: web.Request) -> web.Response:
    """Revokes a key for good; repeating it changes nothing."""
    row, key_id = await _owned(request), request.match_info["key_id"]
    await revoke_key(request.app[DATABASE], row.client.id, key_id, by=actor_of(request))
    return web.Response(status=204)


@routes.post("/auth/clients/{id}/rotate-key")
@documented(
    tag="auth",
    summary="Give a client another key",
    answers={200: (RotatedAnswer, "The new key: the only time it is shown.")},
    problems=(NotFound, Conflict, Unprocessable),
)
@reads_json(RotateBody)
@access(ADMIN)
async def rotate(request: web.Request) -> web.Response:
    """Makes a new key and lets those of before expire, at once or after `grace_seconds`."""
    row, key = await _visible(request), keys.generate()
    until = await rotate_key(
        request.app[DATABASE],
        row.client.id,
        key=key,
        pepper=_pepper(request),
        grace=timedelta(seconds=request["json"]["grace_seconds"]),
        by=actor_of(request),
    )
    return json_answer(client_shapes.rotated(row.client, key, until))


async def _visible(request: web.Request) -> ClientRow:
    """Return the client of the path; the operator sees its own alone, and others like unknown ones."""
    ref = entity_ref(request.match_info["id"])
    row = await get_client_row(request.app[DATABASE], ref) if ref is not None else None
    if row is None or (Scope.ADMIN not in request[PRINCIPAL].scopes and not managed_by_operator(row.client)):
        raise NotFound("No such client.")
    return row


async def _owned(request: web.Request) -> ClientRow:
    """Return the client of the path where it is the owner's that the query names, if it names one."""
    row, owner = await _visible(request), request["querystring"].get("owner")
    if owner is not None:
        require_owner(row.client.owner, owner)
    return row


async def _detail(db: Database, row: ClientRow) -> dict[str, Any]:
    number = row.client.id
    return client_shapes.client_detail(
        row,
        stored=await get_usage(db, number),
        ai=await get_ai_usage(db, number),
        keys=await list_keys(db, number),
        lane_open=await count_left_behind(db, number),
    )


async def _changed(request: web.Request, changed: ClientChange) -> dict[str, Any]:
    db, services = request.app[DATABASE], request.app[CLIENTS]
    if changed.lane_before not in (None, changed.client.lane) and services.move_lanes is not None:
        services.move_lanes()
    if services.wake_parked is not None:
        # A higher limit, another plan or policy may let go on what waits for its budget.
        services.wake_parked()
    row = await get_client_row(db, changed.client.id)
    if row is None:
        raise NotFound("No such client.")
    return await _detail(db, row)


async def _ensure_lane(request: web.Request, choice: str, client: Client | UUID) -> None:
    """Make a lane of the client's own before anything is sent there; raise Unavailable while NATS is away."""
    uuid = client if isinstance(client, UUID) else client.uuid
    lane = resolve_lane(choice, plan_lane=PLAN_LANES[Plan.STANDARD], client=uuid)
    ensure_lane = request.app[CLIENTS].ensure_lane
    if ensure_lane is not None:
        await ensure_lane(lane)


def _new_client(body: dict[str, Any], *, uuid: UUID | None = None, owner: str | None = None) -> NewClient:
    wanted, ordinary = _unique(body.get("pipeline", {})), Pipeline()
    return NewClient(
        name=body["name"],
        plan=Plan(body["plan"]),
        scopes=parse_client_scopes(body["scopes"]) if "scopes" in body else CLIENT_SCOPES,
        limits=body.get("limits", {}),
        pipeline=Pipeline(
            stages=tuple(Stage(name) for name in wanted.get("stages", ordinary.stages)),
            ocr_languages=tuple(wanted.get("ocr_languages", ())),
            description_language=wanted.get("description_language", ordinary.description_language),
            ai_budget_policy=BudgetPolicy(policy) if (policy := wanted.get("ai_budget_policy")) else None,
        ),
        uuid=uuid,
        managed_by=None if owner is None else OPERATOR,
        owner=owner,
    )


def _unique(pipeline: dict[str, Any]) -> dict[str, Any]:
    return {name: list(dict.fromkeys(value)) if isinstance(value, list) else value for name, value in pipeline.items()}


def _uuid(request: web.Request) -> UUID:
    ref = entity_ref(request.match_info["id"])
    if not isinstance(ref, UUID):
        raise NotFound("No such client.")
    return ref


def _pepper(request: web.Request) -> str:
    pepper = request.app[SETTINGS].api_key_pepper
    if pepper is None:
        raise Unavailable("The server has no API_KEY_PEPPER.")
    return pepper.get_secret_value()
