"""Every route against every kind of key: the matrix is made from the routes themselves, so that none can escape it."""

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

from imago.api.app import add_routes
from imago.api.auth import key_cache
from imago.api.auth.permissions import Permission, permission_of
from imago.api.auth.tokens import Tokens
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

# What each route is called with where it needs a body; a new route that needs one is noticed for being refused.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("PATCH", "/images/{id}"): {"json": {"tags": ["x"]}},
    ("POST", "/images/{id}/reprocess"): {"json": {"stages": ["exif"]}},
    ("POST", "/auth/clients"): {"json": {"name": "x", "plan": "free"}},
    ("PUT", "/auth/clients/{id}"): {"json": {"name": "x", "plan": "free", "owner": "somebody"}},
    ("PATCH", "/auth/clients/{id}"): {"json": {"name": "x"}},
    ("PUT", "/auth/clients/{id}/keys/{key_id}"): {"json": {"sha256": "0" * 64}},
    ("POST", "/auth/clients/{id}/rotate-key"): {"json": {}},
    ("POST", "/auth/token"): {"json": {}},
    ("POST", "/admin/dead-letters/replay"): {"json": {"stage": "ocr"}},
    ("POST", "/ai/summarize"): {"json": {"url": "http://127.0.0.1/", "language": "en"}},
    ("POST", "/ai/draft-task"): {"json": {"description": "Paint the fence."}},
}

# What a good key gets where that is neither a success nor, under an id that doesn't exist, a 404.
OTHERWISE = {
    ("POST", "/ai/summarize"): (422, "url-refused"),
    # Without a hub there is no stream to open: it says so, behind the check of the key.
    ("GET", "/images/events"): (503, "unavailable"),
}


@dataclass
class House:
    """An API with two tenants, one of which has an image, and credentials of each kind as headers."""

    api: Api
    mine: Tenant
    other: Tenant
    foreign_image: dict[str, Any]
    bad: dict[str, dict[str, str]]
    scopeless: str

    def rules(self) -> list[tuple[AbstractRoute, str, Permission]]:
        """Return every route with its path and what it asks for."""
        app = self.api.http.server.app  # type: ignore[union-attr]
        found = []
        for route in app.router.routes():
            rule = permission_of(route.handler)
            assert route.resource is not None
            assert rule is not None, f"{route.resource.canonical} does not declare who may call it"
            found.append((route, route.resource.canonical, rule))
        return found

    async def ask(self, route: AbstractRoute, path: str, headers: dict[str, str], **parts: str) -> web.Response:
        """Call a route and return its status and body as they are."""
        values = {"id": str(uuid4()), "key_id": "abcdefgh", "token": "x", "name": "x", **parts}
        options = BODIES.get((route.method, path), {})
        if path == "/images/upload":
            form = FormData()
            form.add_field("file", encoded(), filename="photo.jpg", content_type="image/jpeg")
            options = {"data": form}
        async with self.api.http.request(route.method, path.format(**values), headers=headers, **options) as answer:
            body = b"" if answer.content_type == "text/event-stream" else await answer.read()
            return web.Response(status=answer.status, body=body)


def by_key(key: str) -> dict[str, str]:
    return {"X-API-Key": key}


def by_token(client: Client, key: str, *, secret: str = JWT_SECRET, seconds: int = 60) -> dict[str, str]:
    """Return the headers of somebody with a token that was made of a key."""
    parsed = keys.parse(key)
    assert parsed is not None
    text = Tokens(secret).issue(client=client.uuid, key_id=parsed.key_id, scopes=client.scopes, seconds=seconds)
    return {"Authorization": f"Bearer {text}"}


@pytest.fixture
async def house(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
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
        "no token": {"Authorization": "Bearer x"},
        "an expired token": by_token(mine.client, mine.key, seconds=-1),
        "a token of another's secret": by_token(mine.client, mine.key, secret="somebody else's secret, long enough"),
        "a token of another client's key": by_token(other.client, mine.key),
        "a token of an expired key": by_token(mine.client, late.reveal()),
        "a token of a revoked key": by_token(mine.client, revoked.reveal()),
        "a token of an inactive client": by_token(inactive.client, inactive.key),
    }
    yield House(api, mine, other, image, bad, scopeless.key)
    await api.http.close()


async def test_no_key_and_no_bad_key_or_token_opens_a_route_that_is_not_public(house: House) -> None:
    seen = 0
    answers: dict[str, set[object]] = {"key": set(), "token": set()}
    for route, path, rule in house.rules():
        if rule.public:
            continue
        for name, headers in house.bad.items():
            answer = await house.ask(route, path, headers)
            assert answer.status == 401, f"{route.method} {path} with {name}: {answer.status}"
            if headers:
                answers["token" if "Authorization" in headers else "key"].add(answer.body)
            seen += 1
    assert [len(bodies) for bodies in answers.values()] == [1, 1], "the answers tell bad credentials apart"
    print(f"{seen} pairs of route and bad credentials refused")


async def test_each_kind_of_good_key_opens_what_its_scopes_say(house: House) -> None:
    kinds: dict[str, tuple[str, Callable[[Permission], bool]]] = {
        "administrator": (ADMIN_KEY, lambda rule: rule.platform and rule.allows({"admin"})),
        "operator": (OPERATOR_KEY, lambda rule: rule.platform and rule.allows({"clients:manage"})),
        "tenant without scopes": (house.scopeless, lambda rule: not rule.platform and rule.allows(())),
        "tenant": (house.mine.key, lambda rule: not rule.platform and rule.allows(CLIENT_SCOPES)),
        # One by one: no scope opens another's routes.
        **{
            f"tenant with {scope}": (
                (await house.api.new_client(str(scope), scopes=[scope])).key,
                partial(lambda rule, scope: not rule.platform and rule.allows({scope}), scope=scope),
            )
            for scope in sorted(CLIENT_SCOPES)
        },
    }
    for name, (key, opens) in kinds.items():
        for route, path, rule in house.rules():
            if rule.public:
                continue
            answer = await house.ask(route, path, by_key(key))
            what = f"{name}: {route.method} {path} answered {answer.status} {answer.body!r}"
            if not opens(rule):
                assert answer.status == 403, what
            elif (route.method, path) in OTHERWISE:
                code = json.loads(answer.body)["code"]  # type: ignore[arg-type]
                assert (answer.status, code) == OTHERWISE[route.method, path], what
            elif "{id}" in path and route.method != "PUT":
                assert answer.status == 404, what
            else:
                assert 200 <= answer.status < 300 or ("{key_id}" in path and answer.status == 404), what


async def test_a_route_that_does_not_say_who_may_call_it_cannot_be_added() -> None:
    table = web.RouteTableDef()

    @table.get("/images/{id}/secrets")
    async def forgot(_: web.Request) -> web.Response:
        return web.Response()

    with pytest.raises(TypeError, match="does not declare who may call it"):
        add_routes(web.Application(), [table])


async def foreign_ids_are_unknown(house: House) -> None:
    """Hold that on every route of tenants another tenant's image answers byte for byte like a missing one."""
    routes = [(route, path) for route, path, rule in house.rules() if not (rule.public or rule.platform)]
    routes = [(route, path) for route, path in routes if "{" in path]
    assert len(routes) >= 9
    missing = {"number": "999999", "uuid": str(uuid4())}
    foreign = {"number": str(house.foreign_image["id"]), "uuid": house.foreign_image["uuid"]}
    for route, path in routes:
        for form in ("number", "uuid"):
            unknown = await house.ask(route, path, by_key(house.mine.key), id=missing[form])
            theirs = await house.ask(route, path, by_key(house.mine.key), id=foreign[form])
            assert unknown.status == 404, f"{route.method} {path}: {unknown.body!r}"
            assert (theirs.status, theirs.body) == (404, unknown.body), f"{route.method} {path}"
    status, still = await house.other.call("GET", f"/images/{house.foreign_image['id']}")
    assert status == 200, "somebody else's request changed it"
    assert still["user"] == {"description": None, "tags": None}


async def lists_show_ones_own_alone(house: House) -> None:
    """Hold that no list and no number tells of another tenant's images."""
    sha256 = (await house.other.call("GET", f"/images/{house.foreign_image['id']}"))[1]["sha256"]
    for query in ({}, {"q": "photo"}, {"sha256": sha256}, {"status": "pending"}):
        status, page = await house.mine.call("GET", "/images", params=query)
        assert (status, page["items"], page["quota"]["images_used"]) == (200, [], 0), query
    assert (await house.mine.call("GET", "/images/tags/all"))[1]["items"] == []
    assert (await house.mine.call("GET", "/auth/me"))[1]["usage"]["images"] == 0
    status, uploaded = await house.mine.upload(encoded())
    assert (status, uploaded["duplicate_of"]) == (201, None), "duplicates are looked for among one's own alone"


async def test_another_tenants_image_answers_byte_for_byte_like_a_missing_one(house: House) -> None:
    await foreign_ids_are_unknown(house)


async def test_no_list_shows_another_tenants_rows(house: House) -> None:
    await lists_show_ones_own_alone(house)


@pytest.mark.parametrize("db", ["postgresql"], indirect=True)
async def test_with_every_condition_on_the_client_struck_out_the_routes_show_nothing_foreign(
    db: Database, house: House
) -> None:
    with forgetting_the_client(db) as struck:
        await foreign_ids_are_unknown(house)
        await lists_show_ones_own_alone(house)
    assert len(set(struck)) >= 10, "no condition was struck out: the pattern no longer fits what SQLAlchemy writes"
    print(f"{len(set(struck))} statements without their condition")


async def test_a_client_that_the_operator_does_not_manage_answers_it_like_a_missing_one(house: House) -> None:
    scope = {str(Scope.CLIENTS_MANAGE)}
    routes = [(route, path) for route, path, rule in house.rules() if rule.platform and rule.allows(scope)]
    compared = 0
    for route, path in routes:
        # The uuid is of the caller's choice there: one that is taken is a conflict, whosever it is.
        if (route.method, path) == ("PUT", "/auth/clients/{id}"):
            continue
        for missing, foreign in (("999999", str(house.other.client.id)), (str(uuid4()), str(house.other.client.uuid))):
            unknown = await house.ask(route, path, by_key(OPERATOR_KEY), id=missing)
            theirs = await house.ask(route, path, by_key(OPERATOR_KEY), id=foreign)
            assert (unknown.status, theirs.status, theirs.body) == (404, 404, unknown.body), f"{route.method} {path}"
            compared += 1
    assert compared >= 8
    assert (await house.other.call("GET", "/auth/me"))[0] == 200


async def test_every_act_of_the_platforms_is_written_down_with_its_request(house: House) -> None:
    acts = 0
    for route, path, rule in house.rules():
        if not rule.platform or route.method == "GET":
            continue
        managed, key = str(uuid4()), keys.generate()
        owned = f"/auth/clients/{managed}"
        body = {"name": "x", "plan": "standard", "owner": "somebody"}
        assert (await house.api.call("PUT", owned, key=OPERATOR_KEY, json=body))[0] == 201
        digest = {"sha256": key.wire_digest.hex()}
        registered = f"{owned}/keys/{key.key_id}"
        assert (await house.api.call("PUT", registered, key=OPERATOR_KEY, json=digest))[0] == 201
        by = ADMIN_KEY if rule.allows({"admin"}) else OPERATOR_KEY
        headers = {**by_key(by), "X-Request-ID": f"act-{uuid4()}"}
        # A key is registered under an id that is free, and taken back under the one that is there.
        key_id = "abcdefgh" if route.method == "PUT" else key.key_id
        answer = await house.ask(route, path, headers, id=managed, key_id=key_id)
        assert answer.status < 300, f"{route.method} {path}: {answer.body!r}"
        _, log = await house.api.call("GET", "/admin/audit", params={"limit": 5})
        written = [record for record in log["items"] if record["request_id"] == headers["X-Request-ID"]]
        assert len(written) == 1, f"{route.method} {path} left no record, or several"
        assert written[0]["actor"] == ("admin" if by == ADMIN_KEY else "operator")
        acts += 1
    assert acts >= 8
