"""Reconciliation: a crash at every call, two operators at the same time, and what each rejection leaves unchanged."""

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest

from imago.core.clients import keys
from imago.core.times import utc_now
from imago_operator.conditions import Reason
from imago_operator.reconciler.reconcile import reconcile
from imago_operator.resource import ResourceRef
from tests.support.operator import condition, decoded
from tests.support.operator_fakes import (
    SECRETS_PATH,
    FakeWorld,
    SimulatedCrash,
    crash_at_every_call,
    owner,
    resource,
)

SECRET = f"{SECRETS_PATH}/atelier-imago"


def assert_one_working_key(world: FakeWorld, client: UUID, secret_name: str = "atelier-imago") -> None:
    """Check that the Secret's key is valid and the only one without an expiry."""
    secret = world.kubernetes.secret(secret_name)
    assert secret is not None
    contents = decoded(secret)
    assert set(contents) == {"api-key", "client-id", "url"}, "no key is half promoted"
    key = keys.parse(contents["api-key"])
    assert key is not None
    assert world.api.endless_keys(client) == [key.key_id]
    assert world.api.digests[key.key_id] == key.wire_digest.hex()
    assert len(world.api.registrations) == len(set(world.api.registrations)), "no key is registered twice"


async def reconciled(world: FakeWorld, ref: ResourceRef) -> None:
    await reconcile(world.operator(), ref)


def request_rotation(world: FakeWorld) -> None:
    world.body()["metadata"]["annotations"]["imago.dev/rotate"] = "now"
    bump_version(world)


def change_secret_name(world: FakeWorld) -> None:
    world.body()["spec"] = {"apiKey": {"secretName": "moved"}}
    bump_version(world)


def delete_secret(world: FakeWorld) -> None:
    del world.kubernetes.objects[SECRET]


def delete_client(world: FakeWorld) -> None:
    world.api.clients.clear()
    world.api.digests.clear()
    world.api.registrations.clear()


def revoke_keys(world: FakeWorld) -> None:
    client = UUID(world.body()["metadata"]["uid"])
    for key_id in list(world.api.clients[client].keys):
        world.api.change_key(client, key_id, revoked_at=utc_now())


def create(world: FakeWorld) -> None:
    """The resource is new: there is nothing to change first."""


def bump_version(world: FakeWorld) -> None:
    metadata = world.body()["metadata"]
    metadata["resourceVersion"] = f"{metadata['resourceVersion']}1"


CHANGES = [create, request_rotation, change_secret_name, delete_secret, delete_client, revoke_keys]
Change = Callable[[FakeWorld], None]


def secret_name_after(change: Change) -> str:
    return "moved" if change is change_secret_name else "atelier-imago"


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("after_effect", [False, True], ids=["before the effect", "after the effect"])
async def test_a_crash_at_any_call_loses_no_key_and_registers_none_twice(change: Change, after_effect: bool) -> None:
    async def scenario(crash_at: int) -> bool:
        world = FakeWorld()
        ref = world.kubernetes.add(resource("atelier"))
        if change is not create:
            await reconciled(world, ref)
            change(world)
        world.faults.crash_at_call(crash_at, after_effect=after_effect)
        crashed = False
        try:
            await reconciled(world, ref)
        except SimulatedCrash:
            crashed = True
        world.faults.crash_at = None
        await reconciled(world, ref)
        await reconciled(world, ref)
        assert world.ready_reason() == "Reconciled"
        assert_one_working_key(world, UUID(ref.uid), secret_name_after(change))
        assert list(world.api.clients) == [UUID(ref.uid)]
        return crashed

    await crash_at_every_call(scenario)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_two_concurrent_operators_agree_on_one_key(change: Change) -> None:
    for seed in range(30):
        chance = random.Random(seed)
        world = FakeWorld()
        ref = world.kubernetes.add(resource("atelier"))
        if change is not create:
            await reconciled(world, ref)
            change(world)

        async def yield_control(chance: random.Random = chance) -> None:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)

        world.faults.before_effect = yield_control
        await asyncio.gather(*(reconcile(world.operator(), ref) for _ in range(2)))
        world.faults.before_effect = None
        await reconciled(world, ref)
        assert_one_working_key(world, UUID(ref.uid), secret_name_after(change))


async def test_a_reconciliation_without_changes_writes_nothing() -> None:
    world = FakeWorld()
    ref = world.kubernetes.add(resource("atelier"))
    await reconciled(world, ref)
    writes, events = world.kubernetes.writes, list(world.events)
    await reconciled(world, ref)
    assert (world.kubernetes.writes, world.events) == (writes, events)
    assert [event for event, _ in events] == ["KeyIssued"]


async def test_while_the_api_is_unavailable_nothing_is_created_and_the_condition_says_so() -> None:
    world = FakeWorld()
    ref = world.kubernetes.add(resource("atelier"))
    world.faults.api_unavailable = True
    result = await reconcile(world.operator(), ref)
    assert (result.reason, result.failed) == (Reason.API_UNAVAILABLE, True)
    assert world.kubernetes.secrets == []
    assert world.ready_reason() == "ApiUnavailable"
    assert condition(world.body(), "CredentialsIssued")["status"] == "Unknown"
    world.faults.api_unavailable = False
    await reconciled(world, ref)
    assert world.ready_reason() == "Reconciled"
    world.faults.api_unavailable = True
    await reconciled(world, ref)
    assert condition(world.body(), "CredentialsIssued")["status"] == "True", "the last known state is kept"
    assert world.body()["status"]["apiKey"]["keyId"]


async def test_a_foreign_secret_is_not_changed_and_the_client_is_created_all_the_same() -> None:
    world = FakeWorld()
    ref = world.kubernetes.add(resource("atelier"))
    foreign = {"metadata": {"name": "atelier-imago", "resourceVersion": "7", "uid": "x"}, "data": {"api-key": "eA=="}}
    world.kubernetes.objects[SECRET] = foreign
    before = repr(foreign)
    await reconciled(world, ref)
    assert world.ready_reason() == "SecretConflict"
    assert repr(world.kubernetes.objects[SECRET]) == before
    del world.kubernetes.objects[SECRET]
    await reconciled(world, ref)
    assert world.ready_reason() == "Reconciled"
    assert_one_working_key(world, UUID(ref.uid))


async def test_a_client_of_another_owner_is_neither_disclosed_nor_changed() -> None:
    world = FakeWorld()
    first = world.kubernetes.add(resource("atelier"))
    await reconciled(world, first)
    before = dict(world.api.clients)
    thief = world.kubernetes.add(resource("thief", clientId=first.uid))
    await reconciled(world, thief)
    assert world.ready_reason("thief") == "AdoptionRefused"
    assert world.api.clients == before
    assert world.kubernetes.secret("thief-imago") is None
    world.api.change_client(UUID(first.uid), active=False)
    await reconciled(world, thief)
    assert world.ready_reason("thief") == "ClientOwned"
    command = f"imago client transfer {first.uid} {owner('thief')}"
    assert command in condition(world.body("thief"), "Ready")["message"]
    assert world.kubernetes.secret("thief-imago") is None


async def test_a_forged_secret_gives_no_access_to_the_client_it_names() -> None:
    world = FakeWorld()
    first = world.kubernetes.add(resource("atelier"))
    await reconciled(world, first)
    stolen = world.kubernetes.secret("atelier-imago")
    assert stolen is not None
    thief = world.kubernetes.add(resource("thief"))
    forged = {
        "metadata": {
            "name": "thief-imago",
            "uid": "x",
            "resourceVersion": "1",
            "labels": {"imago.dev/client-id": first.uid},
            "annotations": {"imago.dev/client": "photos/thief"},
        },
        "data": {"client-id": stolen["data"]["client-id"]},
    }
    world.kubernetes.objects[f"{SECRETS_PATH}/thief-imago"] = forged
    await reconciled(world, thief)
    assert world.ready_reason("thief") == "ClientOwned"
    assert world.api.endless_keys(UUID(first.uid)) == [world.body()["status"]["apiKey"]["keyId"]]


async def test_the_keys_of_the_previous_owner_are_rejected_after_an_adoption() -> None:
    world = FakeWorld()
    first = world.kubernetes.add(resource("atelier"))
    await reconciled(world, first)
    client = UUID(first.uid)
    world.api.change_client(client, owner=owner("heir"))
    heir = world.kubernetes.add(resource("heir", clientId=first.uid))
    await reconciled(world, heir)
    assert world.ready_reason("heir") == "Reconciled"
    assert_one_working_key(world, client, "heir-imago")
    await reconciled(world, first)
    assert world.ready_reason() == "ClientOwned"
    assert_one_working_key(world, client, "heir-imago")


async def test_a_deleted_secret_is_reissued_and_the_lost_key_expires_after_the_grace_period() -> None:
    world = FakeWorld()
    ref = world.kubernetes.add(resource("atelier"))
    await reconciled(world, ref)
    lost = world.body()["status"]["apiKey"]["keyId"]
    delete_secret(world)
    await reconciled(world, ref)
    client = UUID(ref.uid)
    assert_one_working_key(world, client)
    expires = world.api.clients[client].keys[lost].expires_at
    assert expires is not None
    assert timedelta(hours=23) < expires - utc_now() <= timedelta(hours=24)
    assert [event for event, _ in world.events] == ["KeyIssued", "KeyReissued"]


async def test_the_secret_of_a_previous_name_is_deleted_when_its_key_has_expired() -> None:
    world = FakeWorld()
    ref = world.kubernetes.add(resource("atelier"))
    await reconciled(world, ref)
    client = UUID(ref.uid)
    old = world.body()["status"]["apiKey"]["keyId"]
    change_secret_name(world)
    await reconciled(world, ref)
    assert world.body()["status"]["binding"] == {"name": "moved", "previous": ["atelier-imago"]}
    assert world.kubernetes.secret("atelier-imago") is not None
    assert world.api.clients[client].keys[old].expires_at is not None
    world.api.change_key(client, old, expires_at=utc_now() - timedelta(seconds=1))
    await reconciled(world, ref)
    assert world.kubernetes.secret("atelier-imago") is None
    assert world.body()["status"]["binding"] == {"name": "moved"}
    assert_one_working_key(world, client, "moved")


async def test_a_paused_resource_changes_only_its_condition() -> None:
    world = FakeWorld()
    ref = world.kubernetes.add(resource("atelier", annotations={"imago.dev/paused": "true"}))
    await reconciled(world, ref)
    assert world.ready_reason() == "Paused"
    assert (world.api.clients, world.kubernetes.secrets) == ({}, [])


async def test_suspending_deactivates_the_client_and_resuming_keeps_its_key() -> None:
    world = FakeWorld()
    ref = world.kubernetes.add(resource("atelier"))
    await reconciled(world, ref)
    key = world.body()["status"]["apiKey"]["keyId"]
    world.body()["spec"] = {"suspended": True}
    await reconciled(world, ref)
    assert (world.ready_reason(), world.api.clients[UUID(ref.uid)].active) == ("Suspended", False)
    world.body()["spec"] = {}
    await reconciled(world, ref)
    assert (world.ready_reason(), world.api.clients[UUID(ref.uid)].active) == ("Reconciled", True)
    assert world.body()["status"]["apiKey"]["keyId"] == key


async def test_without_dedicated_lanes_a_client_that_requests_one_uses_premium() -> None:
    world = FakeWorld(dedicated_enabled=False)
    ref = world.kubernetes.add(resource("atelier", priority={"lane": "dedicated", "maxReplicas": 2}))
    await reconciled(world, ref)
    ready = condition(world.body(), "Ready")
    assert (ready["status"], ready["reason"], world.body()["status"]["lane"]) == ("True", "SharedLane", "premium")


async def test_no_event_or_status_contains_a_secret() -> None:
    world = FakeWorld()
    ref = world.kubernetes.add(resource("atelier"))
    await reconciled(world, ref)
    request_rotation(world)
    await reconciled(world, ref)
    secret = world.kubernetes.secret("atelier-imago")
    assert secret is not None
    key = decoded(secret)["api-key"]
    published = repr(world.events) + repr(world.body()["status"])
    assert key.split("_")[2] not in published
    assert "imago_" not in published
