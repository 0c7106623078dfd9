"""Passes over a resource: every point of death, operators side by side, and what each refusal leaves untouched."""

import asyncio
import random
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from imago.core.clients import keys
from imago.core.times import utc_now
from imago_operator.conditions import Reason
from imago_operator.deletion import finalize
from imago_operator.reconcile import reconcile
from imago_operator.resource import Ref
from tests.support.operator import condition, decoded
from tests.support.operator_fakes import Death, Memory, imc_path, owner, resource


def body_of(world: Memory, name: str = "atelier") -> dict[str, Any]:
    return world.kubernetes.objects[imc_path(name)]


def reason(world: Memory, name: str = "atelier") -> str:
    return str(condition(body_of(world, name), "Ready")["reason"])


def one_working_key(world: Memory, client: UUID, secret_name: str = "atelier-imago") -> None:
    """Check what must hold after all is settled: the Secret's key opens, and no other does without an end."""
    secret = world.kubernetes.secret(secret_name)
    assert secret is not None
    held = decoded(secret)
    assert set(held) == {"api-key", "client-id", "url"}, "nothing is left half done"
    key = keys.parse(held["api-key"])
    assert key is not None
    assert world.api.opening(client) == [key.key_id]
    assert world.api.digests[key.key_id] == key.wire_digest.hex()
    assert len(world.api.registrations) == len(set(world.api.registrations)), "no key is registered twice"


async def settle(world: Memory, ref: Ref) -> None:
    await reconcile(world.operator(), ref)


def change_rotate(world: Memory) -> None:
    body_of(world)["metadata"]["annotations"]["imago.dev/rotate"] = "now"
    bump(world)


def change_secret_name(world: Memory) -> None:
    body_of(world)["spec"] = {"apiKey": {"secretName": "moved"}}
    bump(world)


def lose_secret(world: Memory) -> None:
    del world.kubernetes.objects["/api/v1/namespaces/photos/secrets/atelier-imago"]


def lose_client(world: Memory) -> None:
    world.api.clients.clear()
    world.api.digests.clear()
    world.api.registrations.clear()


def lose_key(world: Memory) -> None:
    client = UUID(body_of(world)["metadata"]["uid"])
    for state in list(world.api.clients[client].keys.values()):
        world.api._key(client, type(state)(state.key_id, state.created_at, state.expires_at, utc_now()))


def nothing(world: Memory) -> None:
    return


def bump(world: Memory) -> None:
    metadata = body_of(world)["metadata"]
    metadata["resourceVersion"] = f"{metadata['resourceVersion']}1"


CHANGES = [nothing, change_rotate, change_secret_name, lose_secret, lose_client, lose_key]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("after", [False, True], ids=["before the effect", "after the effect"])
async def test_a_death_at_any_call_loses_no_key_and_registers_none_twice(change: Any, after: bool) -> None:
    points = 0
    while True:
        world = Memory()
        ref = world.kubernetes.add(resource("atelier"))
        client = UUID(ref.uid)
        if change is not nothing:
            await settle(world, ref)
            change(world)
        world.faults.calls, world.faults.die_at, world.faults.after = 0, points + 1, after
        try:
            await settle(world, ref)
            survived = True
        except Death:
            survived = False
        world.faults.die_at = None
        await settle(world, ref)
        await settle(world, ref)
        assert reason(world) == "Reconciled"
        one_working_key(world, client, "moved" if change is change_secret_name else "atelier-imago")
        assert list(world.api.clients) == [client]
        if survived:
            break
        points += 1
    assert points >= 4, "there were points to die at"


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_two_operators_at_once_agree_on_one_key(change: Any) -> None:
    for seed in range(30):
        chance = random.Random(seed)
        world = Memory()
        ref = world.kubernetes.add(resource("atelier"))
        if change is not nothing:
            await settle(world, ref)
            change(world)

        async def give_way(chance: random.Random = chance) -> None:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)

        world.faults.pause = give_way
        await asyncio.gather(*(reconcile(world.operator(), ref) for _ in range(2)))
        world.faults.pause = None
        await settle(world, ref)
        one_working_key(world, UUID(ref.uid), "moved" if change is change_secret_name else "atelier-imago")


async def test_a_pass_that_finds_all_right_writes_nothing() -> None:
    world = Memory()
    ref = world.kubernetes.add(resource("atelier"))
    await settle(world, ref)
    writes, events = world.kubernetes.writes, list(world.events)
    await settle(world, ref)
    assert (world.kubernetes.writes, world.events) == (writes, events)
    assert [event for event, _ in events] == ["KeyIssued"]


async def test_while_the_api_is_away_nothing_is_made_and_the_condition_says_so() -> None:
    world = Memory()
    ref = world.kubernetes.add(resource("atelier"))
    world.faults.away = True
    result = await reconcile(world.operator(), ref)
    assert (result.reason, result.failed) == (Reason.API_UNAVAILABLE, True)
    assert world.kubernetes.secrets == []
    assert reason(world) == "ApiUnavailable"
    assert condition(body_of(world), "CredentialsIssued")["status"] == "Unknown"
    world.faults.away = False
    await settle(world, ref)
    assert reason(world) == "Reconciled"
    world.faults.away = True
    await reconcile(world.operator(), ref)
    assert condition(body_of(world), "CredentialsIssued")["status"] == "True", "what was seen last stays"
    assert body_of(world)["status"]["apiKey"]["keyId"]


async def test_a_foreign_secret_is_left_alone_and_the_client_served_all_the_same() -> None:
    world = Memory()
    ref = world.kubernetes.add(resource("atelier"))
    path = "/api/v1/namespaces/photos/secrets/atelier-imago"
    foreign = {"metadata": {"name": "atelier-imago", "resourceVersion": "7", "uid": "x"}, "data": {"api-key": "eA=="}}
    world.kubernetes.objects[path] = foreign
    before = repr(foreign)
    await settle(world, ref)
    assert reason(world) == "SecretConflict"
    assert repr(world.kubernetes.objects[path]) == before
    del world.kubernetes.objects[path]
    await settle(world, ref)
    assert reason(world) == "Reconciled"
    one_working_key(world, UUID(ref.uid))


async def test_a_strangers_client_is_neither_read_nor_written() -> None:
    world = Memory()
    first = world.kubernetes.add(resource("atelier"))
    await settle(world, first)
    before = dict(world.api.clients)
    thief = world.kubernetes.add(resource("thief", clientId=first.uid))
    await settle(world, thief)
    assert reason(world, "thief") == "AdoptionRefused"
    assert world.api.clients == before
    assert world.kubernetes.secret("thief-imago") is None
    client = UUID(first.uid)
    world.api._replace(client, active=False)
    await settle(world, thief)
    assert reason(world, "thief") == "ClientOwned"
    assert (
        f"imago client transfer {first.uid} {owner('thief')}" in condition(body_of(world, "thief"), "Ready")["message"]
    )
    assert world.kubernetes.secret("thief-imago") is None


async def test_a_forged_secret_takes_no_one_elses_client() -> None:
    world = Memory()
    first = world.kubernetes.add(resource("atelier"))
    await settle(world, first)
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
    world.kubernetes.objects["/api/v1/namespaces/photos/secrets/thief-imago"] = forged
    await settle(world, thief)
    assert reason(world, "thief") == "ClientOwned"
    assert world.api.opening(UUID(first.uid)) == [body_of(world)["status"]["apiKey"]["keyId"]]


async def test_an_adopted_client_is_opened_by_no_key_of_its_owner_before() -> None:
    world = Memory()
    first = world.kubernetes.add(resource("atelier"))
    await settle(world, first)
    client = UUID(first.uid)
    world.api._replace(client, owner=owner("heir"))
    heir = world.kubernetes.add(resource("heir", clientId=first.uid))
    await settle(world, heir)
    assert reason(world, "heir") == "Reconciled"
    one_working_key(world, client, "heir-imago")
    await settle(world, first)
    assert reason(world) == "ClientOwned"
    one_working_key(world, client, "heir-imago")


async def test_a_deleted_secret_is_reissued_and_the_lost_key_ends_with_the_grace() -> None:
    world = Memory()
    ref = world.kubernetes.add(resource("atelier"))
    await settle(world, ref)
    lost = body_of(world)["status"]["apiKey"]["keyId"]
    lose_secret(world)
    await settle(world, ref)
    client = UUID(ref.uid)
    one_working_key(world, client)
    expires = world.api.clients[client].keys[lost].expires_at
    assert expires is not None
    assert timedelta(hours=23) < expires - utc_now() <= timedelta(hours=24)
    assert [event for event, _ in world.events] == ["KeyIssued", "KeyReissued"]


async def test_a_moved_secret_goes_when_its_key_has_ended() -> None:
    world = Memory()
    ref = world.kubernetes.add(resource("atelier"))
    await settle(world, ref)
    client = UUID(ref.uid)
    old = body_of(world)["status"]["apiKey"]["keyId"]
    change_secret_name(world)
    await settle(world, ref)
    assert body_of(world)["status"]["binding"] == {"name": "moved", "previous": ["atelier-imago"]}
    assert world.kubernetes.secret("atelier-imago") is not None
    state = world.api.clients[client].keys[old]
    assert state.expires_at is not None
    world.api._key(client, type(state)(old, state.created_at, utc_now() - timedelta(seconds=1), None))
    await settle(world, ref)
    assert world.kubernetes.secret("atelier-imago") is None
    assert body_of(world)["status"]["binding"] == {"name": "moved"}
    one_working_key(world, client, "moved")


async def test_a_pause_freezes_everything_but_the_word_for_it() -> None:
    world = Memory()
    ref = world.kubernetes.add(resource("atelier", annotations={"imago.dev/paused": "true"}))
    await settle(world, ref)
    assert reason(world) == "Paused"
    assert (world.api.clients, world.kubernetes.secrets) == ({}, [])


async def test_suspension_switches_the_client_off_and_on_and_keeps_its_key() -> None:
    world = Memory()
    ref = world.kubernetes.add(resource("atelier"))
    await settle(world, ref)
    key = body_of(world)["status"]["apiKey"]["keyId"]
    body_of(world)["spec"] = {"suspended": True}
    await settle(world, ref)
    assert (reason(world), world.api.clients[UUID(ref.uid)].active) == ("Suspended", False)
    body_of(world)["spec"] = {}
    await settle(world, ref)
    assert (reason(world), world.api.clients[UUID(ref.uid)].active) == ("Reconciled", True)
    assert body_of(world)["status"]["apiKey"]["keyId"] == key


async def test_dedicated_where_it_is_not_offered_is_served_by_premium() -> None:
    world = Memory(dedicated_enabled=False)
    ref = world.kubernetes.add(resource("atelier", priority={"lane": "dedicated", "maxReplicas": 2}))
    await settle(world, ref)
    found = condition(body_of(world), "Ready")
    assert (found["status"], found["reason"], body_of(world)["status"]["lane"]) == ("True", "SharedLane", "premium")


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
@pytest.mark.parametrize("after", [False, True], ids=["before the effect", "after the effect"])
async def test_a_death_at_any_call_of_a_deletion_leaves_nothing_behind(policy: str, after: bool) -> None:
    points = 0
    while True:
        world = Memory()
        ref = world.kubernetes.add(resource("atelier", deletionPolicy=policy))
        client = UUID(ref.uid)
        await settle(world, ref)
        body_of(world)["metadata"]["deletionTimestamp"] = "2026-11-25T12:00:00Z"
        world.faults.calls, world.faults.die_at, world.faults.after = 0, points + 1, after
        survived = False
        for _ in range(4):
            try:
                result = await finalize(world.operator(), ref)
            except Death:
                world.faults.die_at = None
                continue
            if policy == "Delete" and world.api.clients.get(client) and world.api.clients[client].erasure:
                assert result.again is not None, "the erasure is waited for"
                del world.api.clients[client]
                continue
            if result.again is None and not result.failed:
                survived = world.faults.die_at is not None
                break
        else:
            raise AssertionError("the deletion didn't end")
        assert world.kubernetes.secrets == []
        if policy == "Delete":
            assert client not in world.api.clients
        else:
            assert not world.api.clients[client].active
        if survived:
            break
        points += 1
    assert points >= 4, "there were points to die at"


async def test_deleting_a_resource_that_never_got_its_client_leaves_that_client_alone() -> None:
    world = Memory()
    first = world.kubernetes.add(resource("atelier"))
    await settle(world, first)
    thief = world.kubernetes.add(resource("thief", clientId=first.uid, deletionPolicy="Delete"))
    await settle(world, thief)
    before = dict(world.api.clients)
    body_of(world, "thief")["metadata"]["deletionTimestamp"] = "2026-11-25T12:00:00Z"
    result = await finalize(world.operator(), thief)
    assert (result.again, result.failed) == (None, False)
    assert world.api.clients == before


async def test_an_abandoned_resource_goes_without_a_word_to_the_api() -> None:
    world = Memory()
    ref = world.kubernetes.add(resource("atelier"))
    await settle(world, ref)
    body_of(world)["metadata"] |= {
        "deletionTimestamp": "2026-11-25T12:00:00Z",
        "annotations": {"imago.dev/abandon": "true"},
    }
    world.faults.away = True
    result = await finalize(world.operator(), ref)
    assert (result.again, result.failed) == (None, False)
    assert world.events[-1][0] == "Abandoned"
    assert world.api.clients[UUID(ref.uid)].active


async def test_no_word_to_people_holds_a_secret() -> None:
    world = Memory()
    ref = world.kubernetes.add(resource("atelier"))
    await settle(world, ref)
    change_rotate(world)
    await settle(world, ref)
    secret = world.kubernetes.secret("atelier-imago")
    assert secret is not None
    key = decoded(secret)["api-key"]
    told = repr(world.events) + repr(body_of(world)["status"])
    assert key.split("_")[2] not in told
    assert "imago_" not in told
