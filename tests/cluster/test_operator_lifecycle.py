"""From `kubectl apply` to a working key, and each transition of a client's life, on a real API server."""

import json
import re
from typing import Any

from imago_operator.kubernetes import secret_path
from tests.support.operator import OPERATOR_KEY, condition, decoded, imc_path
from tests.support.operator_world import STRANGERS, TENANTS, World, key_of, opens_again, other_key, served, shuts


async def test_the_secrets_key_uploads_an_image_with_quota_and_rate_limit_in_force(world: World) -> None:
    name = world.name()
    await world.kube.make(
        TENANTS,
        name,
        plan="standard",
        quota={"images": 2, "storage": "1Mi"},
        rateLimit={"requestsPerMinute": 1, "burst": 8},
        scopes=["images:read", "images:write"],
    )
    ready = await world.kube.ready(TENANTS, name)
    status = ready["status"]
    secret = await world.kube.secret(TENANTS, f"{name}-imago")
    assert secret is not None
    assert set(secret) == {"api-key", "client-id", "url"}
    assert secret["client-id"] == status["clientId"] == ready["metadata"]["uid"]
    assert secret["api-key"].split("_")[1] == status["apiKey"]["keyId"]
    assert status["binding"] == {"name": f"{name}-imago"}
    key = secret["api-key"]
    code, me = await world.imago.ask("GET", "/auth/me", key=key)
    assert (code, me["plan"], me["limits"]["images"], me["limits"]["storage_bytes"]) == (200, "standard", 2, 2**20)
    assert sorted(me["scopes"]) == ["images:read", "images:write"]
    codes = [(await world.imago.upload(key))[0] for _ in range(3)]
    assert codes == [201, 201, 413]
    limited = [(await world.imago.ask("GET", "/auth/me", key=key))[0] for _ in range(6)]
    assert 429 in limited
    assert all(condition(ready, kind)["status"] == "True" for kind in ("CredentialsIssued", "QuotaApplied"))


async def test_a_new_value_of_the_annotation_replaces_the_key_once_and_the_old_one_ends_with_the_grace(
    world: World,
) -> None:
    name, old, _ = await served(world, apiKey={"rotation": {"gracePeriod": "6s"}})
    await world.kube.annotate(TENANTS, name, {"imago.dev/rotate": "today"})
    new = await other_key(world, name, old)
    assert await world.imago.opens(new)
    assert await world.imago.opens(old), "both open during the grace"
    await shuts(world, old)
    await world.kube.annotate(TENANTS, name, {"imago.dev/rotate": "today", "unrelated": "x"})
    await world.kube.change(TENANTS, name, displayName="changed")
    await world.kube.ready(TENANTS, name)
    assert await key_of(world, TENANTS, name) == new, "a value that was handled asks for nothing"
    reasons = [event["reason"] for event in await world.kube.events(TENANTS, name)]
    assert reasons.count("KeyIssued") == reasons.count("KeyRotated") == 1


async def test_a_key_is_replaced_by_itself_when_its_interval_has_passed(world: World) -> None:
    name, old, ready = await served(world, apiKey={"rotation": {"interval": "6s", "gracePeriod": "3s"}})
    assert ready["status"]["apiKey"]["rotateAt"] > ready["status"]["apiKey"]["issuedAt"]
    new = await other_key(world, name, old)
    assert await world.imago.opens(new)
    await shuts(world, old)
    await world.kube.change(TENANTS, name, apiKey={"rotation": {"interval": None}})


async def test_changes_of_plan_scopes_and_limits_take_effect_on_the_live_key(world: World) -> None:
    name, key, _ = await served(world, plan="free")
    await world.kube.change(
        TENANTS, name, plan="premium", scopes=["images:read"], quota={"images": 7}, displayName="Atelier"
    )
    await world.kube.ready(TENANTS, name)

    async def look() -> Any:
        code, me = await world.imago.ask("GET", "/auth/me", key=key)
        return code == 200 and me["plan"] == "premium" and me

    me = await world.kube.until(look, what="the plan to change", timeout=10)
    assert (me["scopes"], me["limits"]["images"], me["client"]["name"]) == (["images:read"], 7, "Atelier")
    assert ((await world.kube.imc(TENANTS, name)) or {})["status"]["lane"] == "premium"


async def test_suspension_shuts_the_key_and_its_end_opens_the_same_one(world: World) -> None:
    name, key, _ = await served(world)
    await world.kube.change(TENANTS, name, suspended=True)
    suspended = await world.kube.ready(TENANTS, name, reason="Suspended")
    assert condition(suspended, "Ready")["status"] == "False"
    await shuts(world, key)
    await world.kube.change(TENANTS, name, suspended=False)
    await world.kube.ready(TENANTS, name)
    await opens_again(world, key)


async def test_a_changed_name_publishes_a_new_secret_and_the_old_one_goes_after_its_grace(world: World) -> None:
    name, old, _ = await served(world, apiKey={"rotation": {"gracePeriod": "6s"}})
    await world.kube.change(TENANTS, name, apiKey={"secretName": f"{name}-moved"})
    moved = await world.kube.ready(TENANTS, name)
    assert moved["status"]["binding"] == {"name": f"{name}-moved", "previous": [f"{name}-imago"]}
    new = await key_of(world, TENANTS, name, f"{name}-moved")
    assert new != old
    assert await world.imago.opens(new)
    assert await world.imago.opens(old)
    assert await key_of(world, TENANTS, name) == old

    async def look() -> bool:
        return await world.kube.secret(TENANTS, f"{name}-imago") is None

    await world.kube.until(look, what="the old Secret to go", of=(TENANTS, name))
    await shuts(world, old)
    assert await world.imago.opens(new)


async def test_a_deleted_secret_is_reissued_and_a_spoilt_one_mended(world: World) -> None:
    name, old, _ = await served(world)
    path = secret_path(TENANTS, f"{name}-imago")
    await world.kube.delete(path)
    new = await other_key(world, name, old)
    assert await world.imago.opens(new)
    secret = await world.kube.get(path)
    assert secret is not None
    version = {"resourceVersion": secret["metadata"]["resourceVersion"]}
    await world.kube.patch(path, {"metadata": version, "data": {"api-key": "bm9uc2Vuc2U=", "url": None}})

    async def mended() -> bool:
        held = await world.kube.secret(TENANTS, f"{name}-imago") or {}
        return held.get("api-key", "").startswith("imago_") and "url" in held

    await world.kube.until(mended, what="the Secret to be mended", of=(TENANTS, name))
    assert await world.imago.opens(await key_of(world, TENANTS, name))


async def test_a_client_that_somebody_deactivated_or_erased_comes_back_with_the_key_of_the_secret(world: World) -> None:
    _name, key, ready = await served(world)
    client = ready["status"]["clientId"]
    assert (await world.imago.ask("DELETE", f"/auth/clients/{client}"))[0] == 204
    await shuts(world, key)
    await opens_again(world, key)
    assert (await world.imago.ask("DELETE", f"/auth/clients/{client}", params={"erase": "true"}))[0] == 202
    await shuts(world, key)
    await opens_again(world, key)
    detail = await world.imago.client(client)
    assert detail is not None
    assert [item["key_id"] for item in detail["keys"]] == [key.split("_")[1]]


async def test_a_foreign_secret_is_never_touched(world: World) -> None:
    name = world.name()
    path = secret_path(TENANTS, f"{name}-imago")
    meta = {"name": f"{name}-imago", "labels": {"imago.dev/client-id": "x"}}
    await world.kube.create(secret_path(TENANTS), {"metadata": meta, "stringData": {"api-key": "theirs"}})
    before = await world.kube.get(path)
    await world.kube.make(TENANTS, name)
    conflict = await world.kube.ready(TENANTS, name, reason="SecretConflict")
    assert "spec.apiKey.secretName" in condition(conflict, "Ready")["message"]
    await world.kube.annotate(TENANTS, name, {"imago.dev/rotate": "1"})
    await world.kube.drop(TENANTS, name)
    await world.kube.gone(TENANTS, name)
    assert await world.kube.get(path) == before


async def test_a_retained_client_keeps_its_images_and_its_owner_takes_it_back(world: World) -> None:
    name, key, ready = await served(world)
    client = ready["status"]["clientId"]
    assert (await world.imago.upload(key))[0] == 201
    await world.kube.drop(TENANTS, name)
    await world.kube.gone(TENANTS, name)
    detail = await world.imago.client(client)
    assert detail is not None
    assert (detail["active"], detail["usage"]["images"]) == (False, 1)
    assert await world.kube.secret(TENANTS, f"{name}-imago") is None
    _, again, back = await served(world, name=name, clientId=client)
    assert back["status"]["clientId"] == client
    assert back["metadata"]["uid"] != client
    code, page = await world.imago.ask("GET", "/images", key=again)
    assert (code, len(page["items"])) == (200, 1)
    # The key of the life before opens nothing, once no replica remembers it.
    await shuts(world, key, timeout=10)


async def test_deletion_policy_delete_erases_everything(world: World) -> None:
    name, key, ready = await served(world, deletionPolicy="Delete")
    assert (await world.imago.upload(key))[0] == 201
    await world.kube.drop(TENANTS, name)
    await world.kube.gone(TENANTS, name, timeout=90)
    assert await world.imago.client(ready["status"]["clientId"]) is None
    assert await world.kube.secret(TENANTS, f"{name}-imago") is None


async def test_a_strangers_client_is_refused_until_an_administrator_hands_it_over(world: World) -> None:
    name, key, ready = await served(world)
    client = ready["status"]["clientId"]
    thief = world.name("thief")
    await world.kube.make(STRANGERS, thief, clientId=client)
    await world.kube.ready(STRANGERS, thief, reason="AdoptionRefused")
    assert await world.kube.secret(STRANGERS, f"{thief}-imago") is None
    unknown = world.name("thief")
    await world.kube.make(STRANGERS, unknown, clientId="0a4f9d8e-1111-4222-8333-944455566677")
    refused = await world.kube.ready(STRANGERS, unknown, reason="AdoptionRefused")
    message = condition(refused, "Ready")["message"]
    owner = message.rsplit(" ", 1)[1].replace(unknown, thief)
    assert (await world.imago.ask("PATCH", f"/auth/clients/{client}", json={"owner": owner}))[0] == 200
    await world.kube.ready(STRANGERS, thief)
    taken = await key_of(world, STRANGERS, thief)
    assert await world.imago.opens(taken)
    await shuts(world, key)
    await world.kube.ready(TENANTS, name, reason="ClientOwned")
    await world.kube.drop(TENANTS, name)
    await world.kube.gone(TENANTS, name)
    assert await world.imago.opens(taken), "who lost a client deletes nothing of it"


async def test_a_restored_resource_finds_its_client_by_its_secret_and_a_restored_namespace_asks_first(
    world: World,
) -> None:
    name, key, ready = await served(world)
    client, path = ready["status"]["clientId"], secret_path(TENANTS, f"{name}-imago")
    saved = await world.kube.get(path)
    assert saved is not None
    last = await world.kube.annotate(TENANTS, name, {"imago.dev/abandon": "true"})
    await world.kube.drop(TENANTS, name)
    await world.kube.gone(TENANTS, name)
    assert await world.imago.opens(key), "an abandoned client stays as it is"
    # What was lost, and comes back from a backup.
    await world.kube.delete(path)

    def backup(namespace: str) -> tuple[Any, Any]:
        kept = {field: saved[field] for field in ("data", "type")}
        meta = {field: saved["metadata"][field] for field in ("name", "labels", "annotations")}
        meta["annotations"] = {**meta["annotations"], "imago.dev/client": f"{namespace}/{name}"}
        annotations = dict(last["metadata"]["annotations"])
        del annotations["imago.dev/abandon"]
        body = {"metadata": {"name": name, "annotations": annotations, "finalizers": ["imago.dev/finalizer"]}}
        kind = {"apiVersion": ready["apiVersion"], "kind": ready["kind"]}
        return {**kind, **body, "spec": ready["spec"]}, {"metadata": meta, **kept}

    resource, secret = backup(STRANGERS)
    await world.kube.create(secret_path(STRANGERS), secret)
    await world.kube.create(imc_path(STRANGERS), resource)
    await world.kube.ready(STRANGERS, name, reason="ClientOwned")
    resource, secret = backup(TENANTS)
    await world.kube.create(secret_path(TENANTS), secret)
    await world.kube.create(imc_path(TENANTS), resource)
    restored = await world.kube.ready(TENANTS, name)
    assert restored["status"]["clientId"] == client
    assert restored["metadata"]["uid"] != client
    assert await key_of(world, TENANTS, name) == key, "and nobody needs another key"
    assert await world.imago.opens(key)


async def test_nothing_is_looked_at_while_a_resource_is_paused_and_its_deletion_waits(world: World) -> None:
    name, key, _ = await served(world)
    await world.kube.annotate(TENANTS, name, {"imago.dev/paused": "true"})
    paused = await world.kube.ready(TENANTS, name, reason="Paused")
    assert condition(paused, "Ready")["status"] == "True", "what it was stays known"
    await world.kube.delete(secret_path(TENANTS, f"{name}-imago"))
    await world.kube.change(TENANTS, name, plan="premium")
    await world.kube.drop(TENANTS, name)

    async def waits() -> bool:
        found = await world.kube.imc(TENANTS, name)
        return found is not None and "deletion waits" in condition(found, "Ready")["message"]

    await world.kube.until(waits, what="the deletion to say what it waits for", of=(TENANTS, name))
    assert await world.imago.opens(key)
    await world.kube.annotate(TENANTS, name, {"imago.dev/paused": None})
    await world.kube.gone(TENANTS, name)
    await shuts(world, key)


async def test_usage_shows_in_the_status(world: World) -> None:
    _name, _key, ready = await served(world)
    assert ready["status"]["usage"]["images"] == 0
    assert ready["status"]["usage"]["observedAt"]


async def test_while_imagos_api_is_away_the_condition_says_so_and_nothing_is_made(world: World) -> None:
    name = world.name()
    world.platform.apis[0].stop()
    await world.kube.make(TENANTS, name)
    waiting = await world.kube.ready(TENANTS, name, reason="ApiUnavailable")
    assert condition(waiting, "Ready")["status"] == "False"
    assert await world.kube.secret(TENANTS, f"{name}-imago") is None
    await world.start_api()
    await world.kube.ready(TENANTS, name)
    assert await world.imago.opens(await key_of(world, TENANTS, name))


async def test_no_log_status_or_event_holds_a_secret(world: World) -> None:
    secrets = (await world.kube.get(secret_path(TENANTS)) or {})["items"]
    events = await world.kube.get(f"/api/v1/namespaces/{TENANTS}/events")
    resources = await world.kube.get(imc_path(TENANTS))
    keys = [decoded(secret)["api-key"] for secret in secrets if secret.get("type") == "servicebinding.io/imago"]
    assert keys
    told = world.operator.log_text() + json.dumps(events) + json.dumps(resources)
    for key in keys:
        assert key.split("_")[2] not in told
    for leak in (r"imago_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}", re.escape(OPERATOR_KEY)):
        assert re.search(leak, told) is None
