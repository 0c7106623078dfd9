"""Managing clients and their keys, by administrators and by the operator."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from aiohttp import web

from imago.api.auth.permissions import ADMIN, ADMIN_OR_MANAGER, MANAGER, allow
from imago.api.clients.requests import (
    MAX_OCR_LANGUAGES,
    ClientsQuery,
    EraseQuery,
    KeyBody,
    NewClientBody,
    OwnerQuery,
    PatchClientBody,
    PutClientBody,
    RotateBody,
)
from imago.api.clients.responses import (
    ClientDetailResponse,
    ClientsResponse,
    KeyResponse,
    NewClientResponse,
    RotatedKeyResponse,
    client_detail_response,
    clients_response,
    key_response,
    new_client_response,
    rotated_key_response,
)
from imago.api.http.json import json_response
from imago.api.http.paging import decode_id
from imago.api.http.request_context import PRINCIPAL, actor_of
from imago.api.http.requests import entity_ref
from imago.api.http.services import CLIENTS, DATABASE, SETTINGS
from imago.api.openapi.decorators import documented, reads_json, reads_query
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
from imago.core.text.language_names import UnknownLanguage, resolve_ocr_languages
from imago.db.engine import Database

routes = web.RouteTableDef()

_UUID_PARAMETER = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The uuid, which the caller chooses",
    "schema": {"type": "string", "format": "uuid"},
}


@routes.post("/auth/clients")
@documented(
    tag="auth",
    summary="Create a client",
    responses={201: (NewClientResponse, "The client with its key, which is shown only here.")},
    errors=(Unprocessable,),
)
@reads_json(NewClientBody)
@allow(ADMIN)
async def create(request: web.Request) -> web.Response:
    """Create a client with its first key. Its limits are the plan's where the body does not override them."""
    key, new = keys.generate(), _new_client(request, request["json"])
    client = await create_client(request.app[DATABASE], new, key=key, pepper=_pepper(request), by=actor_of(request))
    return json_response(new_client_response(client, key), status=201)


@routes.get("/auth/clients", allow_head=False)
@documented(
    tag="auth",
    summary="List clients",
    responses={200: (ClientsResponse, "A page of clients, the oldest first.")},
    errors=(Unprocessable,),
)
@reads_query(ClientsQuery)
@allow(ADMIN)
async def clients(request: web.Request) -> web.Response:
    """List all clients, including deactivated ones."""
    query = request["querystring"]
    found, after = await list_clients(
        request.app[DATABASE],
        limit=query["limit"],
        after=decode_id(query.get("cursor")),
        active=query.get("active"),
        plan=Plan(query["plan"]) if "plan" in query else None,
    )
    return json_response(clients_response(found, after))


@routes.get("/auth/clients/{id}", allow_head=False)
@documented(
    tag="auth",
    summary="Get a client",
    responses={200: (ClientDetailResponse, "The client with its usage, its keys and its erasure.")},
    errors=(NotFound,),
)
@allow(ADMIN_OR_MANAGER)
async def client(request: web.Request) -> web.Response:
    """Return a client with its usage and its keys and, while it is being erased, the progress."""
    return json_response(await _detail(request.app[DATABASE], await _visible(request)))


@routes.patch("/auth/clients/{id}")
@documented(
    tag="auth",
    summary="Change a client",
    responses={200: (ClientDetailResponse, "The changed client.")},
    errors=(NotFound, Conflict, Unprocessable),
)
@reads_json(PatchClientBody)
@allow(ADMIN)
async def patch(request: web.Request) -> web.Response:
    """Change a client; every replica applies the change within seconds.

    If the lane changes, work that waits in the previous lane is moved.
    """
    body, row = request["json"], await _visible(request)
    if "lane" in body:
        await _ensure_lane(request, body["lane"], row.client)
    changes = ClientPatch(
        name=body.get("name"),
        plan=Plan(body["plan"]) if "plan" in body else None,
        scopes=parse_client_scopes(body["scopes"]) if "scopes" in body else None,
        limits=body.get("limits"),
        lane=body.get("lane"),
        pipeline=_resolved(request, body["pipeline"]) if "pipeline" in body else None,
        owner=(body["owner"] or "") if "owner" in body else None,
        active=body.get("active"),
    )
    changed = await patch_client(request.app[DATABASE], row.client.id, changes, by=actor_of(request))
    return json_response(await _changed(request, changed))


@routes.delete("/auth/clients/{id}")
@documented(
    tag="auth",
    summary="Deactivate or erase a client",
    responses={
        202: (ClientDetailResponse, "The erasure has begun; until it ends, the client shows its progress."),
        204: (None, "The client is deactivated."),
    },
    errors=(ClientOwned, NotFound, Unprocessable),
)
@reads_query(EraseQuery)
@allow(ADMIN_OR_MANAGER)
async def delete(request: web.Request) -> web.Response:
    """Deactivate a client and keep its images, or erase the client with all of its data (`erase=true`)."""
    db, row = request.app[DATABASE], await _owned(request)
    if not request["querystring"]["erase"]:
        await deactivate_client(db, row.client.id, by=actor_of(request))
        return web.Response(status=204)
    await request_erasure(db, row.client.id, by=actor_of(request))
    return json_response(await _detail(db, await _visible(request)), status=202)


@routes.put("/auth/clients/{id}")
@documented(
    tag="auth",
    summary="Create or replace a client of the operator",
    responses={
        200: (ClientDetailResponse, "The replaced client."),
        201: (ClientDetailResponse, "The new client; its keys are registered separately."),
    },
    errors=(ClientOwned, Conflict, NotFound, Unprocessable),
    parameters=(_UUID_PARAMETER,),
)
@reads_json(PutClientBody)
@allow(MANAGER)
async def put(request: web.Request) -> web.Response:
    """Create or replace the owner's client under a uuid that the caller chooses. The request is idempotent."""
    body, uuid = request["json"], _uuid(request)
    new = _new_client(request, body, uuid=uuid, owner=body["owner"])
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
    return json_response(await _changed(request, changed), status=201 if changed.created else 200)


@routes.put("/auth/clients/{id}/keys/{key_id}")
@documented(
    tag="auth",
    summary="Register a key of a client of the operator",
    responses={200: (KeyResponse, "The changed key."), 201: (KeyResponse, "The registered key.")},
    errors=(ClientOwned, NotFound, Conflict, Unprocessable),
)
@reads_json(KeyBody)
@reads_query(OwnerQuery)
@allow(MANAGER)
async def put_key(request: web.Request) -> web.Response:
    """Register a key by the SHA-256 of its secret, or change when it expires. The secret itself is never sent."""
    row, key_id = await _owned(request), request.match_info["key_id"]
    if not keys.valid_key_id(key_id):
        raise NotFound("No such key.")
    sent = request["json"].get("sha256")
    digest = None if sent is None else keys.digest_at_rest(bytes.fromhex(sent), _pepper(request))
    registration = KeyRegistration(key_id, digest, request["json"].get("expires_at"))
    state, created = await register_key(request.app[DATABASE], row.client.id, registration, by=actor_of(request))
    return json_response(key_response(state), status=201 if created else 200)


@routes.delete("/auth/clients/{id}/keys/{key_id}")
@documented(
    tag="auth",
    summary="Revoke a key of a client of the operator",
    responses={204: (None, "The key is revoked; every replica rejects it within seconds.")},
    errors=(ClientOwned, NotFound, Unprocessable),
)
@reads_query(OwnerQuery)
@allow(MANAGER)
async def delete_key(request: web.Request) -> web.Response:
    """Revoke a key permanently. The request is idempotent."""
    row, key_id = await _owned(request), request.match_info["key_id"]
    await revoke_key(request.app[DATABASE], row.client.id, key_id, by=actor_of(request))
    return web.Response(status=204)


@routes.post("/auth/clients/{id}/rotate-key")
@documented(
    tag="auth",
    summary="Rotate a client's key",
    responses={200: (RotatedKeyResponse, "The new key, which is shown only here.")},
    errors=(NotFound, Conflict, Unprocessable),
)
@reads_json(RotateBody)
@allow(ADMIN)
async def rotate(request: web.Request) -> web.Response:
    """Create a key and let the previous ones expire, immediately or after `grace_seconds`."""
    row, key = await _visible(request), keys.generate()
    until = await rotate_key(
        request.app[DATABASE],
        row.client.id,
        key=key,
        pepper=_pepper(request),
        grace=timedelta(seconds=request["json"]["grace_seconds"]),
        by=actor_of(request),
    )
    return json_response(rotated_key_response(row.client, key, until))


async def _visible(request: web.Request) -> ClientRow:
    """Return the client of the path; for the operator, clients that it doesn't manage don't exist. Raises NotFound."""
    ref = entity_ref(request.match_info["id"])
    row = await get_client_row(request.app[DATABASE], ref) if ref is not None else None
    if row is None or (Scope.ADMIN not in request[PRINCIPAL].scopes and not managed_by_operator(row.client)):
        raise NotFound("No such client.")
    return row


async def _owned(request: web.Request) -> ClientRow:
    """Return the client of the path; raise ClientOwned if the query names another owner than the client's."""
    row, owner = await _visible(request), request["querystring"].get("owner")
    if owner is not None:
        require_owner(row.client.owner, owner)
    return row


async def _detail(db: Database, row: ClientRow) -> ClientDetailResponse:
    number = row.client.id
    return client_detail_response(
        row,
        stored=await get_usage(db, number),
        ai=await get_ai_usage(db, number),
        keys=await list_keys(db, number),
        lane_open=await count_left_behind(db, number),
    )


async def _changed(request: web.Request, changed: ClientChange) -> ClientDetailResponse:
    db, services = request.app[DATABASE], request.app[CLIENTS]
    if changed.lane_before not in (None, changed.client.lane) and services.move_lanes is not None:
        services.move_lanes()
    if services.wake_parked is not None:
        # Work that waits for its budget may be able to run with a higher limit, or another plan or policy.
        services.wake_parked()
    row = await get_client_row(db, changed.client.id)
    if row is None:
        raise NotFound("No such client.")
    return await _detail(db, row)


async def _ensure_lane(request: web.Request, choice: str, client: Client | UUID) -> None:
    """Create the stream of a client's dedicated lane before work is sent to it; raise Unavailable without NATS."""
    uuid = client if isinstance(client, UUID) else client.uuid
    lane = resolve_lane(choice, plan_lane=PLAN_LANES[Plan.STANDARD], client=uuid)
    ensure_lane = request.app[CLIENTS].ensure_lane
    if ensure_lane is not None:
        await ensure_lane(lane)


def _new_client(
    request: web.Request, body: dict[str, Any], *, uuid: UUID | None = None, owner: str | None = None
) -> NewClient:
    pipeline, defaults = _resolved(request, body.get("pipeline", {})), Pipeline()
    return NewClient(
        name=body["name"],
        plan=Plan(body["plan"]),
        scopes=parse_client_scopes(body["scopes"]) if "scopes" in body else CLIENT_SCOPES,
        limits=body.get("limits", {}),
        pipeline=Pipeline(
            stages=tuple(Stage(name) for name in pipeline.get("stages", defaults.stages)),
            ocr_languages=tuple(pipeline.get("ocr_languages", ())),
            description_language=pipeline.get("description_language", defaults.description_language),
            ai_budget_policy=BudgetPolicy(policy) if (policy := pipeline.get("ai_budget_policy")) else None,
        ),
        uuid=uuid,
        managed_by=None if owner is None else OPERATOR,
        owner=owner,
    )


def _resolved(request: web.Request, pipeline: dict[str, Any]) -> dict[str, Any]:
    """Return a pipeline without duplicates, and with Tesseract's names of languages; raise Unprocessable."""
    resolved = dict(pipeline)
    if "stages" in pipeline:
        resolved["stages"] = list(dict.fromkeys(pipeline["stages"]))
    if "ocr_languages" in pipeline:
        resolved["ocr_languages"] = _ocr_languages(pipeline["ocr_languages"], request.app[CLIENTS].ocr_languages)
    return resolved


def _ocr_languages(texts: list[str], installed: Collection[str]) -> list[str]:
    try:
        names = resolve_ocr_languages(texts, installed=installed)
    except UnknownLanguage as unknown:
        raise _language_problem(str(unknown)) from None
    if len(names) > MAX_OCR_LANGUAGES:
        raise _language_problem(f"At most {MAX_OCR_LANGUAGES} languages.")
    missing = [name for name in names if installed and name not in installed]
    if missing:
        available = ", ".join(sorted(installed))
        raise _language_problem(f"This server can't read {', '.join(missing)}; it has {available}.")
    return list(names)


def _language_problem(text: str) -> Unprocessable:
    return Unprocessable(text, extra={"errors": {"pipeline": {"ocr_languages": [text]}}})


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
