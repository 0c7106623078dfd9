"""From `kubectl apply` to a working key, and every transition of a client, on a real API server."""

import json
import re
from typing import Any

from imago_operator.apis.kubernetes import secret_path
from tests.support.operator import OPERATOR_KEY, condition, decoded, imc_path
from tests.support.operator_world import (
    OTHER_TENANTS,
    TENANTS,
    OperatorCluster,
    create_ready,
    key_of,
    other_key,
    wait_accepted,
    wait_rejected,
)


async def test_the_key_in_the_secret_uploads_images_within_quota_and_rate_limit(world: OperatorCluster) -> None:
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
    code, me = await world.imago.call("GET", "/auth/me", key=key)
    assert (code, me["plan"], me["limits"]["images"], me["limits"]["storage_bytes"]) == (200, "standard", 2, 2**20)
    assert sorted(me["scopes"]) == ["images:read", "images:write"]
    codes = [(await world.imago.upload(key))[0] for _ in range(3)]
    assert codes == [201, 201, 413]
    limited = [(await world.imago.call("GET", "/auth/me", key=key))[0] for _ in range(6)]
    assert 429 in limited
    assert all(condition(ready, kind)["status"] == "True" for kind in ("CredentialsIssued", "QuotaApplied"))


async def test_a_new_value_of_the_annotation_rotates_the_key_once_and_the_old_one_expires_after_the_grace_period(
    world: OperatorCluster,
) -> None:
    name, old, _ = await create_ready(world, apiKey={"rotation": {"gracePeriod": "6s"}})
    await world.kube.annotate(TENANTS, name, {"imago.dev/rotate": "today"})
    new = await other_key(world, name, old)
    assert await world.imago.is_accepted(new)
    assert await world.imago.is_accepted(old), "both are valid during the grace period"
    await wait_rejected(world, old)
    await world.kube.annotate(TENANTS, name, {"imago.dev/rotate": "today", "unrelated": "x"})
    await world.kube.change(TENANTS, name, displayName="changed")
    await world.kube.ready(TENANTS, name)
    assert await key_of(world, TENANTS, name) == new, "a handled value requests no rotation"
    reasons = [event["reason"] for event in await world.kube.events(TENANTS, name)]
    assert reasons.count("KeyIssued") == reasons.count("KeyRotated") == 1


async def test_a_key_is_rotated_after_its_interval(world: OperatorCluster) -> None:
    name, old, ready = await create_ready(world, apiKey={"rotation": {"interval": "6s", "gracePeriod": "3s"}})
    assert ready["status"]["apiKey"]["rotateAt"] > ready["status"]["apiKey"]["issuedAt"]
    new = await other_key(world, name, old)
    assert await world.imago.is_accepted(new)
    await wait_rejected(world, old)
    await world.kube.change(TENANTS, name, apiKey={"rotation": {"interval": None}})


async def test_changes_of_plan_scopes_and_limits_apply_to_the_existing_key(world: OperatorCluster) -> None:
    name, key, _ = await create_ready(world, plan="free")
    await world.kube.change(
        TENANTS, name, plan="premium", scopes=["images:read"], quota={"images": 7}, displayName="Atelier"
    )
    await world.kube.ready(TENANTS, name)

    async def look() -> Any:
        code, me = await world.imago.call("GET", "/auth/me", key=key)
        return code == 200 and me["plan"] == "premium" and me

    me = await world.kube.until(look, what="the plan to change", timeout=10)
    assert (me["scopes"], me["limits"]["images"], me["client"]["name"]) == (["images:read"], 7, "Atelier")
    assert ((await world.kube.imc(TENANTS, name)) or {})["status"]["lane"] == "premium"


async def test_suspending_a_client_rejects_its_key_and_resuming_accepts_it_again(world: OperatorCluster) -> None:
    name, key, _ = await create_ready(world)
    await world.kube.change(TENANTS, name, suspended=True)
    suspended = await world.kube.ready(TENANTS, name, reason="Suspended")
    assert condition(suspended, "Ready")["status"] == "False"
    await wait_rejected(world, key)
    await world.kube.change(TENANTS, name, suspended=False)
    await world.kube.ready(TENANTS, name)
    await wait_accepted(world, key)


async def test_a_changed_secret_name_creates_a_new_secret_and_deletes_the_old_one_later(
    world: OperatorCluster,
) -> None:
    name, old, _ = await create_ready(world, apiKey={"rotation": {"gracePeriod": "6s"}})
    await world.kube.change(TENANTS, name, apiKey={"secretName": f"{name}-moved"})
    moved = await world.kube.ready(TENANTS, name)
    assert moved["status"]["binding"] == {"name": f"{name}-moved", "previous": [f"{name}-imago"]}
    new = await key_of(world, TENANTS, name, f"{name}-moved")
    assert new != old
    assert await world.imago.is_accepted(new)
    assert await world.imago.is_accepted(old)
    assert await key_of(world, TENANTS, name) == old

    async def look() -> bool:
        return await world.kube.secret(TENANTS, f"{name}-imago") is None

    await world.kube.until(look, what="the old Secret to be deleted", of=(TENANTS, name))
    await wait_rejected(world, old)
    assert await world.imago.is_accepted(new)


async def test_a_deleted_secret_is_reissued_and_a_corrupted_one_repaired(world: OperatorCluster) -> None:
    name, old, _ = await create_ready(world)
    path = secret_path(TENANTS, f"{name}-imago")
    await world.kube.delete(path)
    new = await other_key(world, name, old)
    assert await world.imago.is_accepted(new)
    secret = await world.kube.get(path)
    assert secret is not None
    version = {"resourceVersion": secret["metadata"]["resourceVersion"]}
    await world.kube.patch(path, {"metadata": version, "data": {"api-key": "bm9uc2Vuc2U=", "url": None}})

    async def repaired() -> bool:
        held = await world.kube.secret(TENANTS, f"{name}-imago") or {}
        return held.get("api-key", "").startswith("imago_") and "url" in held

    await world.kube.until(repaired, what="the Secret to be repaired", of=(TENANTS, name))
    assert await world.imago.is_accepted(await key_of(world, TENANTS, name))


async def test_a_client_deactivated_or_erased_by_hand_is_restored_with_its_key(
    world: OperatorCluster,
) -> None:
    _name, key, ready = await create_ready(world)
    client = ready["status"]["clientId"]
    assert (await world.imago.call("DELETE", f"/auth/clients/{client}"))[0] == 204
    await wait_rejected(world, key)
    await wait_accepted(world, key)
    assert (await world.imago.call("DELETE", f"/auth/clients/{client}", params={"erase": "true"}))[0] == 202
    await wait_rejected(world, key)
    await wait_accepted(world, key)
    detail = await world.imago.client(client)
    assert detail is not None
    assert [item["key_id"] for item in detail["keys"]] == [key.split("_")[1]]


async def test_a_foreign_secret_is_never_changed(world: OperatorCluster) -> None:
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


async def test_a_retained_client_keeps_its_images_and_can_be_adopted_by_its_owner(world: OperatorCluster) -> None:
    name, key, ready = await create_ready(world)
    client = ready["status"]["clientId"]
    assert (await world.imago.upload(key))[0] == 201
    await world.kube.drop(TENANTS, name)
    await world.kube.gone(TENANTS, name)
    detail = await world.imago.client(client)
    assert detail is not None
    assert (detail["active"], detail["usage"]["images"]) == (False, 1)
    assert await world.kube.secret(TENANTS, f"{name}-imago") is None
    _, again, back = await create_ready(world, name=name, clientId=client)
    assert back["status"]["clientId"] == client
    assert back["metadata"]["uid"] != client
    code, page = await world.imago.call("GET", "/images", key=again)
    assert (code, len(page["items"])) == (200, 1)
    # The previous key is rejected once no replica has it in its cache.
    await wait_rejected(world, key, timeout=10)


async def test_deletion_policy_delete_erases_everything(world: OperatorCluster) -> None:
    name, key, ready = await create_ready(world, deletionPolicy="Delete")
    assert (await world.imago.upload(key))[0] == 201
    await world.kube.drop(TENANTS, name)
    await world.kube.gone(TENANTS, name, timeout=90)
    assert await world.imago.client(ready["status"]["clientId"]) is None
    assert await world.kube.secret(TENANTS, f"{name}-imago") is None


async def test_a_client_of_another_owner_cannot_be_adopted_before_a_transfer(
    world: OperatorCluster,
) -> None:
    name, key, ready = await create_ready(world)
    client = ready["status"]["clientId"]
    thief = world.name("thief")
    await world.kube.make(OTHER_TENANTS, thief, clientId=client)
    await world.kube.ready(OTHER_TENANTS, thief, reason="AdoptionRefused")
    assert await world.kube.secret(OTHER_TENANTS, f"{thief}-imago") is None
    unknown = world.name("thief")
    await world.kube.make(OTHER_TENANTS, unknown, clientId="0a4f9d8e-1111-4222-8333-944455566677")
    refused = await world.kube.ready(OTHER_TENANTS, unknown, reason="AdoptionRefused")
    message = condition(refused, "Ready")["message"]
    owner = message.rsplit(" ", 1)[1].replace(unknown, thief)
    assert (await world.imago.call("PATCH", f"/auth/clients/{client}", json={"owner": owner}))[0] == 200
    await world.kube.ready(OTHER_TENANTS, thief)
    taken = await key_of(world, OTHER_TENANTS, thief)
    assert await world.imago.is_accepted(taken)
    await wait_rejected(world, key)
    await world.kube.ready(TENANTS, name, reason="ClientOwned")
    await world.kube.drop(TENANTS, name)
    await world.kube.gone(TENANTS, name)
    assert await world.imago.is_accepted(taken), "the previous owner deletes nothing of the client"


async def test_a_restored_resource_finds_its_client_by_its_secret_and_in_another_namespace_is_rejected(
    world: OperatorCluster,
) -> None:
    name, key, ready = await create_ready(world)
    client, path = ready["status"]["clientId"], secret_path(TENANTS, f"{name}-imago")
    saved = await world.kube.get(path)
    assert saved is not None
    last = await world.kube.annotate(TENANTS, name, {"imago.dev/abandon": "true"})
    await world.kube.drop(TENANTS, name)
    await world.kube.gone(TENANTS, name)
    assert await world.imago.is_accepted(key), "an abandoned client is not changed"
    # The Secret is lost too, and both are restored from a backup.
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

    resource, secret = backup(OTHER_TENANTS)
    await world.kube.create(secret_path(OTHER_TENANTS), secret)
    await world.kube.create(imc_path(OTHER_TENANTS), resource)
    await world.kube.ready(OTHER_TENANTS, name, reason="ClientOwned")
    resource, secret = backup(TENANTS)
    await world.kube.create(secret_path(TENANTS), secret)
    await world.kube.create(imc_path(TENANTS), resource)
    restored = await world.kube.ready(TENANTS, name)
    assert restored["status"]["clientId"] == client
    assert restored["metadata"]["uid"] != client
    assert await key_of(world, TENANTS, name) == key, "the key has not changed"
    assert await world.imago.is_accepted(key)


async def test_a_paused_resource_is_not_reconciled_and_its_deletion_waits(world: OperatorCluster) -> None:
    name, key, _ = await create_ready(world)
    await world.kube.annotate(TENANTS, name, {"imago.dev/paused": "true"})
    paused = await world.kube.ready(TENANTS, name, reason="Paused")
    assert condition(paused, "Ready")["status"] == "True", "the last known status is kept"
    await world.kube.delete(secret_path(TENANTS, f"{name}-imago"))
    await world.kube.change(TENANTS, name, plan="premium")
    await world.kube.drop(TENANTS, name)

    async def waits() -> bool:
        found = await world.kube.imc(TENANTS, name)
        return found is not None and "Deletion is paused" in condition(found, "Ready")["message"]

    await world.kube.until(waits, what="the deletion to report that it is paused", of=(TENANTS, name))
    assert await world.imago.is_accepted(key)
    await world.kube.annotate(TENANTS, name, {"imago.dev/paused": None})
    await world.kube.gone(TENANTS, name)
    await wait_rejected(world, key)


async def test_the_status_contains_the_usage(world: OperatorCluster) -> None:
    _name, _key, ready = await create_ready(world)
    assert ready["status"]["usage"]["images"] == 0
    assert ready["status"]["usage"]["observedAt"]


async def test_while_imagos_api_is_unavailable_nothing_is_created(
    world: OperatorCluster,
) -> None:
    name = world.name()
    world.platform.apis[0].stop()
    await world.kube.make(TENANTS, name)
    waiting = await world.kube.ready(TENANTS, name, reason="ApiUnavailable")
    assert condition(waiting, "Ready")["status"] == "False"
    assert await world.kube.secret(TENANTS, f"{name}-imago") is None
    await world.start_api()
    await world.kube.ready(TENANTS, name)
    assert await world.imago.is_accepted(await key_of(world, TENANTS, name))


async def test_no_log_status_or_event_contains_a_secret(world: OperatorCluster) -> None:
    secrets = (await world.kube.get(secret_path(TENANTS)) or {})["items"]
    events = await world.kube.get(f"/api/v1/namespaces/{TENANTS}/events")
    resources = await world.kube.get(imc_path(TENANTS))
    keys = [decoded(secret)["api-key"] for secret in secrets if secret.get("type") == "servicebinding.io/imago"]
    assert keys
    published = world.operator.log_text() + json.dumps(events) + json.dumps(resources)
    for key in keys:
        assert key.split("_")[2] not in published
    for leak in (r"imago_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}", re.escape(OPERATOR_KEY)):
        assert re.search(leak, published) is None
