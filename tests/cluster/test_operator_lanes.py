"""Entering and leaving a dedicated lane: streams, workers and jobs, on a real API server and a real NATS."""

from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest
from nats.js.errors import NotFoundError

from imago.core.jobs.stages import STAGES
from imago.core.outbox.subjects import work_stream
from imago_operator.reconciler.workers import KINDS
from tests.support.operator import condition
from tests.support.operator_world import RELEASE, TENANTS, OperatorCluster, key_of

DEDICATED = {"lane": "dedicated", "maxReplicas": 9}


@pytest.fixture
async def jetstream(world: OperatorCluster) -> AsyncIterator[Any]:
    """The installation's JetStream."""
    connection = await nats.connect(world.platform.nats.url)
    yield connection.jetstream()
    await connection.close()


async def consumers(jetstream: Any, stream: str) -> list[str]:
    """Return the names of a stream's consumers, none if the stream does not exist."""
    try:
        return sorted(info.name for info in await jetstream.consumers_info(stream))
    except NotFoundError:
        return []


async def workers(world: OperatorCluster, client: str) -> dict[str, list[Any]]:
    """Return the dedicated workers of a client, by kind."""
    found = {}
    for kind in KINDS:
        answer = await world.kube.get(f"{kind.path(RELEASE)}?labelSelector=imago.dev/client-id={client}")
        found[kind.kind] = (answer or {})["items"]
    return found


async def gone(world: OperatorCluster, jetstream: Any, client: str, stream: str) -> bool:
    left = await workers(world, client)
    return not any(left.values()) and not await consumers(jetstream, stream)


async def lane_of(world: OperatorCluster, client: str) -> str:
    detail = await world.imago.client(client)
    return "" if detail is None else str(detail["lane"])


async def test_a_client_enters_and_leaves_a_dedicated_lane_and_its_open_jobs_move(
    world: OperatorCluster, jetstream: Any
) -> None:
    name = world.name()
    await world.kube.make(TENANTS, name, priority=DEDICATED)
    ready = await world.kube.ready(TENANTS, name)
    client = ready["status"]["clientId"]
    token, stream = client.replace("-", ""), work_stream(client.replace("-", ""))
    assert ready["status"]["lane"] == "dedicated"
    assert await lane_of(world, client) == token
    assert await consumers(jetstream, stream) == sorted(str(stage) for stage in STAGES)
    created = await workers(world, client)
    assert len(created["Deployment"]) == len(created["ScaledObject"]) == 3
    for item in created["ScaledObject"]:
        assert item["spec"]["maxReplicaCount"] == 4, "the installation's cap"
        assert item["spec"]["triggers"][0]["metadata"]["stream"] == stream
    for item in created["Deployment"]:
        labels = item["metadata"]["labels"]
        assert (labels["imago.dev/client-namespace"], labels["imago.dev/client-name"]) == (TENANTS, name)
        assert "imago.dev/template-checksum" in item["spec"]["template"]["metadata"]["annotations"]
        assert item["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] == token

    key = await key_of(world, TENANTS, name)
    for _ in range(3):
        assert (await world.imago.upload(key))[0] == 201

    async def waiting() -> bool:
        return bool((await jetstream.stream_info(stream)).state.messages == 3 * len(STAGES))

    await world.kube.until(waiting, what="the jobs to wait in the dedicated lane")
    await world.kube.change(TENANTS, name, priority={"lane": "premium", "maxReplicas": None})
    draining = await world.kube.ready(TENANTS, name, reason="LaneDraining")
    assert condition(draining, "Ready")["status"] == "True", "the client keeps working meanwhile"
    left = await world.kube.ready(TENANTS, name)
    assert left["status"]["lane"] == "premium"
    assert await gone(world, jetstream, client, stream)
    detail = await world.imago.client(client)
    assert detail is not None
    assert (detail["lane"], detail["lane_open"]) == ("premium", 0)
    moved = await jetstream.stream_info(work_stream("premium"), subjects_filter=f"imago.work.premium.*.{token}")
    assert sum((moved.state.subjects or {}).values()) == 3 * len(STAGES), "no job is lost"


async def test_a_stream_or_worker_deleted_by_hand_is_created_again(world: OperatorCluster, jetstream: Any) -> None:
    name = world.name()
    await world.kube.make(TENANTS, name, priority=DEDICATED)
    client = (await world.kube.ready(TENANTS, name))["status"]["clientId"]
    stream = work_stream(client.replace("-", ""))
    await jetstream.delete_stream(stream)
    created = await workers(world, client)
    for kind in KINDS:
        await world.kube.delete(kind.path(RELEASE, created[kind.kind][0]["metadata"]["name"]))

    async def restored() -> bool:
        present = await workers(world, client)
        streams = await consumers(jetstream, stream)
        return all(len(items) == 3 for items in present.values()) and len(streams) == len(STAGES)

    await world.kube.until(restored, what="stream and workers to be restored", timeout=60)


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
async def test_deleting_a_client_with_a_dedicated_lane_leaves_no_worker_and_no_stream(
    world: OperatorCluster, jetstream: Any, policy: str
) -> None:
    name = world.name()
    await world.kube.make(TENANTS, name, priority=DEDICATED, deletionPolicy=policy)
    client = (await world.kube.ready(TENANTS, name))["status"]["clientId"]
    assert (await world.imago.upload(await key_of(world, TENANTS, name)))[0] == 201
    await world.kube.drop(TENANTS, name)
    await world.kube.gone(TENANTS, name, timeout=90)
    assert await gone(world, jetstream, client, work_stream(client.replace("-", "")))
    detail = await world.imago.client(client)
    assert (detail is None) == (policy == "Delete")


async def test_orphaned_workers_are_deleted(world: OperatorCluster) -> None:
    name = world.name()
    await world.kube.make(TENANTS, name, priority=DEDICATED)
    client = (await world.kube.ready(TENANTS, name))["status"]["clientId"]
    await world.kube.annotate(TENANTS, name, {"imago.dev/abandon": "true"})
    await world.kube.drop(TENANTS, name)
    await world.kube.gone(TENANTS, name)

    async def deleted() -> bool:
        return not any((await workers(world, client)).values())

    await world.kube.until(deleted, what="the workers to be deleted", timeout=60)


async def test_while_nats_is_unavailable_shared_lanes_work_and_a_dedicated_lane_waits(
    world: OperatorCluster, jetstream: Any
) -> None:
    shared, dedicated = world.name(), world.name()
    world.platform.nats.kill()
    try:
        await world.kube.make(TENANTS, shared)
        await world.kube.ready(TENANTS, shared)
        await world.kube.make(TENANTS, dedicated, priority=DEDICATED)
        waiting = await world.kube.ready(TENANTS, dedicated, reason="NatsUnavailable")
        assert condition(waiting, "CredentialsIssued")["status"] == "True", "the client uses premium meanwhile"
        assert waiting["status"]["lane"] == "premium"
    finally:
        world.platform.nats.start()
    await world.kube.ready(TENANTS, dedicated)
    await world.kube.drop(TENANTS, dedicated)
    await world.kube.gone(TENANTS, dedicated)
