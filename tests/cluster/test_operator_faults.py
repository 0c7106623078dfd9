"""Faults of the cluster: conflicts, restarts of the API server, deleted namespaces."""

import asyncio
import contextlib
import urllib.request
from typing import Any

from devtools.kubernetes.control_plane import ControlPlane
from imago_operator.apis.kubernetes import KubernetesUnavailable, ObjectConflict, namespace_path, secret_path
from tests.support.operator import condition, rules
from tests.support.operator_world import (
    DELETED,
    RECREATED,
    RELEASE,
    TENANTS,
    OperatorCluster,
    key_of,
    other_key,
)


async def test_conflicts_with_another_writer_lose_no_key(world: OperatorCluster) -> None:
    name = world.name()
    await world.kube.make(TENANTS, name)
    await world.kube.ready(TENANTS, name)
    path, writes = secret_path(TENANTS, f"{name}-imago"), 0

    async def write_all_the_time() -> None:
        nonlocal writes
        while True:
            writes += 1
            with contextlib.suppress(ObjectConflict, KubernetesUnavailable):
                await world.kube.patch(path, {"metadata": {"annotations": {"counter": str(writes)}}})
                await world.kube.annotate(TENANTS, name, {"counter": str(writes)})
            await asyncio.sleep(0.2)

    writing = asyncio.create_task(write_all_the_time())
    try:
        key = await key_of(world, TENANTS, name)
        for value in range(3):
            before = writes
            await world.kube.annotate(TENANTS, name, {"imago.dev/rotate": str(value)})
            key = await other_key(world, name, key, timeout=90)

            async def written(before: int = before) -> bool:
                return writes > before

            await world.kube.until(written, what="another write")
    finally:
        writing.cancel()
    assert await world.imago.is_accepted(key)
    detail = await world.imago.client((await world.kube.ready(TENANTS, name))["status"]["clientId"])
    assert detail is not None
    assert [item["key_id"] for item in detail["keys"] if item["expires_at"] is None] == [key.split("_")[1]]


async def test_the_operator_survives_a_restart_of_the_api_server(
    own_control_plane: ControlPlane, world: OperatorCluster
) -> None:
    process = world.operator.pid
    own_control_plane.api_server.kill()
    # In this thread, because the daemon ends with the thread that started it.
    own_control_plane.start_api_server()
    name = world.name()

    async def created() -> bool:
        with contextlib.suppress(KubernetesUnavailable):
            await world.kube.make(TENANTS, name)
        return True

    await world.kube.until(created, what="the API server to accept a resource")
    await world.kube.ready(TENANTS, name, timeout=120)
    assert await world.imago.is_accepted(await key_of(world, TENANTS, name))
    assert world.operator.pid == process, "the operator was not restarted"


async def test_a_namespace_deleted_while_imago_is_unavailable_is_gone_once_imago_is_back_and_others_are_not_affected(
    world: OperatorCluster,
) -> None:
    name = world.name()
    await world.kube.make(DELETED, name)
    ready = await world.kube.ready(DELETED, name)
    world.platform.apis[0].stop()
    await world.kube.delete(namespace_path(DELETED))

    async def waits() -> bool:
        found = await world.kube.imc(DELETED, name)
        ready = condition(found or {}, "Ready")
        # Ordinary reconciliations report ApiUnavailable too; only the deletion's message mentions `abandon`.
        return ready.get("reason") == "ApiUnavailable" and "imago.dev/abandon" in ready["message"]

    await world.kube.until(waits, what="the deletion to report that Imago is unavailable", of=(DELETED, name))
    await world.start_api()
    await gone(world, DELETED)
    detail = await world.imago.client(ready["status"]["clientId"])
    assert detail is not None
    assert not detail["active"]
    other = world.name()
    await world.kube.make(TENANTS, other)
    await world.kube.ready(TENANTS, other, timeout=90)


async def test_a_recreated_namespace_is_watched_again_and_is_another_owner(world: OperatorCluster) -> None:
    name = world.name()
    await world.kube.make(RECREATED, name)
    client = (await world.kube.ready(RECREATED, name))["status"]["clientId"]
    await world.kube.delete(namespace_path(RECREATED))
    await gone(world, RECREATED)
    await world.kube.new_namespace(RECREATED)
    granted = [entry for entry in rules(RELEASE, [RECREATED]) if entry["metadata"].get("namespace") == RECREATED]
    await asyncio.to_thread(world.cluster.apply, *granted)
    await world.kube.make(RECREATED, name, clientId=client)
    await world.kube.ready(RECREATED, name, reason="ClientOwned", timeout=90)


async def test_health_and_metrics_are_served(world: OperatorCluster) -> None:
    name = world.name()
    await world.kube.make(TENANTS, name)
    await world.kube.ready(TENANTS, name)
    assert "alive" in await asyncio.to_thread(read, f"http://127.0.0.1:{world.operator.liveness_port}/healthz")
    shown = await asyncio.to_thread(read, f"http://127.0.0.1:{world.operator.metrics_port}/metrics")
    for metric in ("reconciles_total", "errors_total", "reconcile_duration_seconds", "clients"):
        assert f"imago_operator_{metric}" in shown
    assert 'condition="Ready",reason="Reconciled",status="True"' in shown
    assert name not in shown, "no label names a client"


async def gone(world: OperatorCluster, namespace: str) -> None:
    async def look() -> bool:
        return await world.kube.get(namespace_path(namespace)) is None

    await world.kube.until(look, what=f"namespace {namespace} to be gone", timeout=120)


def read(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()
