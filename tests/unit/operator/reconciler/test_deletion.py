"""Deletion: a crash at every call, clients of other owners, and abandoning a resource."""

from uuid import UUID

import pytest

from imago_operator.reconciler.deletion import finalize
from imago_operator.reconciler.reconcile import reconcile
from imago_operator.resource import ResourceRef
from tests.support.operator_fakes import FakeWorld, SimulatedCrash, crash_at_every_call, resource

DELETED_AT = "2026-11-25T12:00:00Z"


async def deleted(world: FakeWorld, ref: ResourceRef) -> None:
    """Repeat the finalizer, as Kopf does after a restart or a delay, and erase the client when asked to."""
    client = UUID(ref.uid)
    for _ in range(4):
        try:
            result = await finalize(world.operator(), ref)
        except SimulatedCrash:
            world.faults.crash_at = None
            continue
        if result.is_finished:
            return
        assert world.api.clients[client].erasure is not None, "the finalizer waits only for the erasure"
        assert result.requeue_after is not None, "the finalizer looks again"
        del world.api.clients[client]
    raise AssertionError("the deletion did not finish")


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
@pytest.mark.parametrize("after_effect", [False, True], ids=["before the effect", "after the effect"])
async def test_a_crash_at_any_call_of_a_deletion_leaves_nothing_behind(policy: str, after_effect: bool) -> None:
    async def scenario(crash_at: int) -> bool:
        world = FakeWorld()
        ref = world.kubernetes.add(resource("atelier", deletionPolicy=policy))
        await reconcile(world.operator(), ref)
        world.body()["metadata"]["deletionTimestamp"] = DELETED_AT
        world.faults.crash_at_call(crash_at, after_effect=after_effect)
        await deleted(world, ref)
        assert world.kubernetes.secrets == []
        if policy == "Delete":
            assert UUID(ref.uid) not in world.api.clients
        else:
            assert not world.api.clients[UUID(ref.uid)].active
        return world.faults.crash_at is None

    await crash_at_every_call(scenario)


async def test_deleting_a_resource_that_never_had_its_client_does_not_change_that_client() -> None:
    world = FakeWorld()
    first = world.kubernetes.add(resource("atelier"))
    await reconcile(world.operator(), first)
    thief = world.kubernetes.add(resource("thief", clientId=first.uid, deletionPolicy="Delete"))
    await reconcile(world.operator(), thief)
    before = dict(world.api.clients)
    world.body("thief")["metadata"]["deletionTimestamp"] = DELETED_AT
    result = await finalize(world.operator(), thief)
    assert result.is_finished
    assert world.api.clients == before


async def test_an_abandoned_resource_is_deleted_without_a_request_to_the_api() -> None:
    world = FakeWorld()
    ref = world.kubernetes.add(resource("atelier"))
    await reconcile(world.operator(), ref)
    world.body()["metadata"] |= {"deletionTimestamp": DELETED_AT, "annotations": {"imago.dev/abandon": "true"}}
    world.faults.api_unavailable = True
    result = await finalize(world.operator(), ref)
    assert result.is_finished
    assert world.events[-1][0] == "Abandoned"
    assert world.api.clients[UUID(ref.uid)].active
