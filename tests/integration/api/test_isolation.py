"""Every route against every kind of key: the matrix is made from the routes themselves, so that none can escape it."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from aiohttp.web_urldispatcher import AbstractRoute
from tests.integration.api.conftest import ADMIN_KEY, OPERATOR_KEY, Api, Tenant, serve
from tests.support.images import encoded
from tests.support.samples import PEPPER

from imago.api import keys as key_cache
from imago.api.access import Access, access_of
from imago.database.client_changes import deactivate_client
from imago.database.client_keys import register_key, revoke_key
from imago.database.engine import Database
from imago.domain import keys
from imago.domain.audit import IMAGO
from imago.domain.scopes import TENANT_SCOPES
from imago.domain.times import utc_now

# What each route is called with where it needs a body; a route that isn't here gets none.
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


@dataclass
class House:
    """An API with two tenants, one of which has an image, and a key of each kind."""

    api: Api
    mine: Tenant
    other: Tenant
    foreign_image: dict[str, Any]
    keys: dict[str, str]

    def rules(self) -> list[tuple[AbstractRoute, str, Access]]:
        """Return every route with its path and what it asks for."""
        app = self.api.http.server.app  # type: ignore[union-attr]
        found = []
        for route in app.router.routes():
            rule = access_of(route.handler)
            assert route.resource is not None
            assert rule is not None, f"{route.resource.canonical} doesn't say who may call it"
            found.append((route, route.resource.canonical, rule))
        return found

    async def ask(self, route: AbstractRoute, path: str, *, key: str | None, **parts: str) -> web.Response:
        """Call a route and return its status and body as they are."""
        values = {"id": str(uuid4()), "key_id": "abcdefgh", "token": "x", "name": "x", **parts}
        url = path.format(**values)
        headers = {} if key is None else {"X-API-Key": key}
        options = BODIES.get((route.method, path), {})
        async with self.api.http.request(route.method, url, headers=headers, **options) as answer:
            body = b"" if answer.content_type == "text/event-stream" else await answer.read()
            return web.Response(status=answer.status, body=body)


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
        await register_key(db, mine.client.id, key_id=key.key_id, digest=digest, expires_at=expires_at, by=IMAGO)
    await revoke_key(db, mine.client.id, revoked.key_id, by=IMAGO)
    yield House(
        api,
        mine,
        other,
        image,
        {
            "malformed": "imago_short",
            "mistyped": mine.key[:-1] + ("0" if mine.key[-1] != "0" else "1"),
            "unknown": keys.generate().reveal(),
            "expired": late.reveal(),
            "revoked": revoked.reveal(),
            "inactive": inactive.key,
            "scopeless": scopeless.key,
        },
    )
    await api.http.close()


BAD_KEYS = ("malformed", "mistyped", "unknown", "expired", "revoked", "inactive")


async def test_no_key_and_no_bad_key_opens_a_route_that_is_not_public(house: House) -> None:
    answers = set()
    seen = 0
    for route, path, rule in house.rules():
        if rule.public:
            continue
        for name in BAD_KEYS:
            answer = await house.ask(route, path, key=house.keys[name])
            assert answer.status == 401, f"{route.method} {path} with a key that is {name}: {answer.status}"
            answers.add(answer.body)
            seen += 1
        assert (await house.ask(route, path, key=None)).status == 401, f"{route.method} {path} without a key"
    assert len(answers) == 1, "the answers tell bad keys apart"
    print(f"{seen} pairs of route and bad key refused")


async def test_each_kind_of_good_key_opens_what_its_scopes_say(house: House) -> None:
    kinds: dict[str, tuple[str, Callable[[Access], int | None]]] = {
        "administrator": (ADMIN_KEY, lambda rule: _platform(rule, "admin")),
        "operator": (OPERATOR_KEY, lambda rule: _platform(rule, "clients:manage")),
        "tenant without scopes": (house.keys["scopeless"], lambda rule: _tenant(rule, frozenset())),
        "tenant": (house.mine.key, lambda rule: _tenant(rule, TENANT_SCOPES)),
    }
    for name, (key, expected) in kinds.items():
        for route, path, rule in house.rules():
            if rule.public:
                continue
            if path == "/images/events" and expected(rule) is None:
                # Without a hub there is no stream to open: it says so, behind the check of the key.
                assert (await house.ask(route, path, key=key)).status == 503
                continue
            answer = await house.ask(route, path, key=key)
            assert isinstance(answer.body, bytes)
            if expected(rule) == 403:
                assert answer.status == 403, f"{name}: {route.method} {path} answered {answer.status}"
            else:
                assert answer.status not in (401, 403), f"{name}: {route.method} {path}: {answer.body!r}"


def _platform(rule: Access, scope: str) -> int | None:
    return None if rule.platform and rule.allows({scope}) else 403


def _tenant(rule: Access, scopes: frozenset[Any]) -> int | None:
    return 403 if rule.platform or not rule.allows(scopes) else None


async def test_another_tenants_image_answers_byte_for_byte_like_a_missing_one(house: House) -> None:
    routes = [(route, path) for route, path, rule in house.rules() if path.startswith("/images/{id}")]
    assert len(routes) >= 9
    missing = {"number": "999999", "uuid": str(uuid4())}
    foreign = {"number": str(house.foreign_image["id"]), "uuid": house.foreign_image["uuid"]}
    for route, path in routes:
        for form in ("number", "uuid"):
            unknown = await house.ask(route, path, key=house.mine.key, id=missing[form])
            theirs = await house.ask(route, path, key=house.mine.key, id=foreign[form])
            assert unknown.status == 404, f"{route.method} {path}: {unknown.body!r}"
            assert (theirs.status, theirs.body) == (404, unknown.body), f"{route.method} {path}"
    status, still = await house.other.call("GET", f"/images/{house.foreign_image['id']}")
    assert status == 200, "somebody else's request changed it"
    assert still["user"] == {"description": None, "tags": None}


async def test_no_list_shows_another_tenants_rows(house: House) -> None:
    sha256 = (await house.other.call("GET", f"/images/{house.foreign_image['id']}"))[1]["sha256"]
    for query in ({}, {"q": "photo"}, {"sha256": sha256}, {"status": "pending"}):
        status, page = await house.mine.call("GET", "/images", params=query)
        assert (status, page["items"]) == (200, []), query
    assert (await house.mine.call("GET", "/images/tags/all"))[1]["items"] == []
    status, uploaded = await house.mine.upload(encoded())
    assert (status, uploaded["duplicate_of"]) == (201, None), "duplicates are looked for among one's own alone"
