"""Every route with every kind of key: the matrix is built from the routes themselves, so that no route is left out."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import FormData, web
from aiohttp.web_urldispatcher import AbstractRoute

from imago.api.auth import key_cache
from imago.api.auth.permissions import Permission, permission_of
from imago.api.auth.tokens import Tokens
from imago.api.server.app import add_routes
from imago.core.clients import keys
from imago.core.clients.audit import IMAGO
from imago.core.clients.changes import deactivate_client
from imago.core.clients.key_registry import KeyRegistration, register_key, revoke_key
from imago.core.clients.model import Client
from imago.core.clients.scopes import CLIENT_SCOPES, Scope
from imago.core.times import utc_now
from imago.db.engine import Database
from tests.integration.api.conftest import ADMIN_KEY, JWT_SECRET, OPERATOR_KEY, Api, Tenant, serve
from tests.support.forgetting import forgetting_the_client
from tests.support.images import encoded
from tests.support.samples import PEPPER

# The body of each route that needs one. A new route that needs one fails the tests until it is added.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("PATCH", "/images/{id}"): {"json": {"tags": ["x"]}},
    ("POST", "/images/{id}/reprocess"): {"json": {"stages": ["exif"]}},
    ("POST", "/auth/clients"): {"json": {"name": "x", "plan": "free"}},
    ("PUT", "/auth/clients/{id}"): {"json": {"name": "x", "plan": "free", "owner": "owner"}},
    ("PATCH", "/auth/clients/{id}"): {"json": {"name": "x"}},
    ("PUT", "/auth/clients/{id}/keys/{key_id}"): {"json": {"sha256": "0" * 64}},
    ("POST", "/auth/clients/{id}/rotate-key"): {"json": {}},
    ("POST", "/auth/token"): {"json": {}},
    ("POST", "/admin/dead-letters/replay"): {"json": {"stage": "ocr"}},
    ("POST", "/admin/reprocess-jobs"): {"json": {"selection": {"stages": ["ocr"]}, "dry_run": True}},
    ("PATCH", "/admin/reprocess-jobs/{id}"): {"json": {"suspended": True}},
    ("POST", "/ai/summarize"): {"json": {"url": "http://127.0.0.1/", "language": "en"}},
    ("POST", "/ai/draft-task"): {"json": {"description": "Paint the fence."}},
}

# They are not about one client; test_reprocess_jobs.py tests them.
OF_JOBS = {"/admin/reprocess-jobs", "/admin/reprocess-jobs/{id}"}

# The response to a valid key where it is neither a success nor, for an unknown id, a 404.
OTHERWISE = {
    ("POST", "/ai/summarize"): (422, "url-refused"),
    # The API of these tests has no event hub.
    ("GET", "/images/events"): (503, "unavailable"),
}


@dataclass
class Tenants:
    """An API with two tenants, one of which has an image, and credentials of each kind as headers."""

    api: Api
    mine: Tenant
    other: Tenant
    foreign_image: dict[str, Any]
    bad: dict[str, dict[str, str]]
    scopeless: str

    def routes(self) -> list[tuple[AbstractRoute, str, Permission]]:
        """Return every route with its path and permission."""
        app = self.api.http.server.app  # type: ignore[union-attr]
        found = []
        for route in app.router.routes():
            rule = permission_of(route.handler)
            assert route.resource is not None
            assert rule is not None, f"{route.resource.canonical} does not declare who may call it"
            found.append((route, route.resource.canonical, rule))
        return found

    async def send(self, route: AbstractRoute, path: str, headers: dict[str, str], **parts: str) -> web.Response:
        """Call a route and return its status and body."""
        values = {"id": str(uuid4()), "key_id": "abcdefgh", "token": "x", "name": "x", **parts}
        options = BODIES.get((route.method, path), {})
        if path == "/images/upload":
            form = FormData()
            form.add_field("file", encoded(), filename="photo.jpg", content_type="image/jpeg")
            options = {"data": form}
        async with self.api.http.request(route.method, path.format(**values), headers=headers, **options) as response:
            body = b"" if response.content_type == "text/event-stream" else await response.read()
            return web.Response(status=response.status, body=body)


def by_key(key: str) -> dict[str, str]:
    return {"X-API-Key": key}


def by_token(client: Client, key: str, *, secret: str = JWT_SECRET, seconds: int = 60) -> dict[str, str]:
    """Return the headers of a request with a token that was issued for a key."""
    parsed = keys.parse(key)
    assert parsed is not None
    text = Tokens(secret).issue(client=client.uuid, key_id=parsed.key_id, scopes=client.scopes, seconds=seconds)
    return {"Authorization": f"Bearer {text}"}


@pytest.fixture
async def tenants(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tenants]:
    monkeypatch.setattr(key_cache, "MAX_AGE", 0.0)
    api = await serve(db, tmp_path / "objects")
    mine, other = await api.new_client("mine"), await api.new_client("other")
    status, image = await other.upload(encoded())
    assert status == 201
    inactive = await api.new_client("inactive")
    await deactivate_client(db, inactive.client.id, by=IMAGO)
    scopeless = await api.new_client("scopeless", scopes=[])
    late, revoked = keys.generate(), keys.generate()
    for key, expires_at in ((late, utc_now() - timedelta(seconds=1)), (revoked, None)):
        digest = keys.digest_at_rest(key.wire_digest, PEPPER)
        await register_key(db, mine.client.id, KeyRegistration(key.key_id, digest, expires_at), by=IMAGO)
    await revoke_key(db, mine.client.id, revoked.key_id, by=IMAGO)
    mistyped = mine.key[:-1] + ("0" if mine.key[-1] != "0" else "1")
    bad = {
        "no key": {},
        "a malformed key": by_key("imago_short"),
        "a mistyped key": by_key(mistyped),
        "an unknown key": by_key(keys.generate().reveal()),
        "an expired key": by_key(late.reveal()),
        "a revoked key": by_key(revoked.reveal()),
        "the key of an inactive client": by_key(inactive.key),
        "a malformed token": {"Authorization": "Bearer x"},
        "an expired token": by_token(mine.client, mine.key, seconds=-1),
        "a token with another secret": by_token(mine.client, mine.key, secret="another secret that is long enough"),
        "a token of another client's key": by_token(other.client, mine.key),
        "a token of an expired key": by_token(mine.client, late.reveal()),
        "a token of a revoked key": by_token(mine.client, revoked.reveal()),
        "a token of an inactive client": by_token(inactive.client, inactive.key),
    }
    yield Tenants(api, mine, other, image, bad, scopeless.key)
    await api.http.close()


async def test_invalid_keys_and_tokens_are_refused_on_every_route_that_is_not_public(tenants: Tenants) -> None:
    seen = 0
    responses: dict[str, set[object]] = {"key": set(), "token": set()}
    for route, path, rule in tenants.routes():
        if rule.public:
            continue
        for name, headers in tenants.bad.items():
            response = await tenants.send(route, path, headers)
            assert response.status == 401, f"{route.method} {path} with {name}: {response.status}"
            if headers:
                responses["token" if "Authorization" in headers else "key"].add(response.body)
            seen += 1
    assert [len(bodies) for bodies in responses.values()] == [1, 1], (
        "the responses differ by the kind of invalid credential"
    )
    print(f"{seen} pairs of route and invalid credential refused")


async def test_each_kind_of_valid_key_is_accepted_on_the_routes_of_its_scopes(tenants: Tenants) -> None:
    kinds: dict[str, tuple[str, Callable[[Permission], bool]]] = {
        "administrator": (ADMIN_KEY, lambda rule: rule.platform and rule.allows({"admin"})),
        "operator": (OPERATOR_KEY, lambda rule: rule.platform and rule.allows({"clients:manage"})),
        "tenant without scopes": (tenants.scopeless, lambda rule: not rule.platform and rule.allows(())),
        "tenant": (tenants.mine.key, lambda rule: not rule.platform and rule.allows(CLIENT_SCOPES)),
        # Each scope separately.
        **{
            f"tenant with {scope}": (
                (await tenants.api.new_client(str(scope), scopes=[scope])).key,
                partial(lambda rule, scope: not rule.platform and rule.allows({scope}), scope=scope),
            )
            for scope in sorted(CLIENT_SCOPES)
        },
    }
    for name, (key, allowed) in kinds.items():
        for route, path, rule in tenants.routes():
            if rule.public:
                continue
            response = await tenants.send(route, path, by_key(key))
            what = f"{name}: {route.method} {path} answered {response.status} {response.body!r}"
            if not allowed(rule):
                assert response.status == 403, what
            elif (route.method, path) in OTHERWISE:
                code = json.loads(response.body)["code"]  # type: ignore[arg-type]
                assert (response.status, code) == OTHERWISE[route.method, path], what
            elif "{id}" in path and route.method != "PUT":
                assert response.status == 404, what
            else:
                assert 200 <= response.status < 300 or ("{key_id}" in path and response.status == 404), what


async def test_a_route_without_a_declared_permission_cannot_be_added() -> None:
    table = web.RouteTableDef()

    @table.get("/images/{id}/secrets")
    async def undeclared(_: web.Request) -> web.Response:
        return web.Response()

    with pytest.raises(TypeError, match="does not declare who may call it"):
        add_routes(web.Application(), [table])


async def foreign_ids_are_unknown(tenants: Tenants) -> None:
    """Assert that on every client route the response for another tenant's image is that for a missing one."""
    routes = [(route, path) for route, path, rule in tenants.routes() if not (rule.public or rule.platform)]
    routes = [(route, path) for route, path in routes if "{" in path]
    assert len(routes) >= 9
    missing = {"number": "999999", "uuid": str(uuid4())}
    foreign = {"number": str(tenants.foreign_image["id"]), "uuid": tenants.foreign_image["uuid"]}
    for route, path in routes:
        for form in ("number", "uuid"):
            unknown = await tenants.send(route, path, by_key(tenants.mine.key), id=missing[form])
            theirs = await tenants.send(route, path, by_key(tenants.mine.key), id=foreign[form])
            assert unknown.status == 404, f"{route.method} {path}: {unknown.body!r}"
            assert (theirs.status, theirs.body) == (404, unknown.body), f"{route.method} {path}"
    status, still = await tenants.other.call("GET", f"/images/{tenants.foreign_image['id']}")
    assert status == 200, "another tenant's request changed the image"
    assert still["user"] == {"description": None, "tags": None}


async def lists_have_only_own_rows(tenants: Tenants) -> None:
    """Assert that no list and no count includes another tenant's images."""
    sha256 = (await tenants.other.call("GET", f"/images/{tenants.foreign_image['id']}"))[1]["sha256"]
    for query in ({}, {"q": "photo"}, {"sha256": sha256}, {"status": "pending"}):
        status, page = await tenants.mine.call("GET", "/images", params=query)
        assert (status, page["items"], page["quota"]["images_used"]) == (200, [], 0), query
    assert (await tenants.mine.call("GET", "/images/tags/all"))[1]["items"] == []
    assert (await tenants.mine.call("GET", "/auth/me"))[1]["usage"]["images"] == 0
    status, uploaded = await tenants.mine.upload(encoded())
    assert (status, uploaded["duplicate_of"]) == (201, None), "only images of the same client are duplicates"


async def test_the_response_for_another_tenants_image_is_that_for_a_missing_one(tenants: Tenants) -> None:
    await foreign_ids_are_unknown(tenants)


async def test_lists_have_no_rows_of_other_tenants(tenants: Tenants) -> None:
    await lists_have_only_own_rows(tenants)


@pytest.mark.parametrize("db", ["postgresql"], indirect=True)
async def test_without_the_conditions_on_the_client_row_security_isolates_the_tenants(
    db: Database, tenants: Tenants
) -> None:
    with forgetting_the_client(db) as removed:
        await foreign_ids_are_unknown(tenants)
        await lists_have_only_own_rows(tenants)
    assert len(set(removed)) >= 10, "no condition was removed: the pattern does not match SQLAlchemy's statements"
    print(f"{len(set(removed))} statements without their condition")


async def test_the_operators_response_for_a_client_that_it_does_not_manage_is_that_for_a_missing_one(
    tenants: Tenants,
) -> None:
    scope = {str(Scope.CLIENTS_MANAGE)}
    routes = [
        (route, path)
        for route, path, rule in tenants.routes()
        if rule.platform and rule.allows(scope) and path not in OF_JOBS
    ]
    compared = 0
    for route, path in routes:
        # The caller chooses the uuid there, and an existing one is a conflict.
        if (route.method, path) == ("PUT", "/auth/clients/{id}"):
            continue
        for missing, foreign in (
            ("999999", str(tenants.other.client.id)),
            (str(uuid4()), str(tenants.other.client.uuid)),
        ):
            unknown = await tenants.send(route, path, by_key(OPERATOR_KEY), id=missing)
            theirs = await tenants.send(route, path, by_key(OPERATOR_KEY), id=foreign)
            assert (unknown.status, theirs.status, theirs.body) == (404, 404, unknown.body), f"{route.method} {path}"
            compared += 1
    assert compared >= 8
    assert (await tenants.other.call("GET", "/auth/me"))[0] == 200


async def test_every_platform_write_has_an_audit_record_with_its_request_id(tenants: Tenants) -> None:
    writes = 0
    for route, path, rule in tenants.routes():
        if not rule.platform or route.method == "GET" or path in OF_JOBS:
            continue
        managed, key = str(uuid4()), keys.generate()
        owned = f"/auth/clients/{managed}"
        body = {"name": "x", "plan": "standard", "owner": "owner"}
        assert (await tenants.api.call("PUT", owned, key=OPERATOR_KEY, json=body))[0] == 201
        digest = {"sha256": key.wire_digest.hex()}
        registered = f"{owned}/keys/{key.key_id}"
        assert (await tenants.api.call("PUT", registered, key=OPERATOR_KEY, json=digest))[0] == 201
        by = ADMIN_KEY if rule.allows({"admin"}) else OPERATOR_KEY
        headers = {**by_key(by), "X-Request-ID": f"write-{uuid4()}"}
        # A new key id for the registration, the existing one for the revocation.
        key_id = "abcdefgh" if route.method == "PUT" else key.key_id
        response = await tenants.send(route, path, headers, id=managed, key_id=key_id)
        assert response.status < 300, f"{route.method} {path}: {response.body!r}"
        _, log = await tenants.api.call("GET", "/admin/audit", params={"limit": 5})
        written = [record for record in log["items"] if record["request_id"] == headers["X-Request-ID"]]
        assert len(written) == 1, f"{route.method} {path} has no audit record, or several"
        assert written[0]["actor"] == ("admin" if by == ADMIN_KEY else "operator")
        writes += 1
    assert writes >= 8
