"""What the cluster does to an operator: conflicts, restarts of the API server, namespaces that go."""

import asyncio
import contextlib
import urllib.request
from typing import Any

from devtools.kubernetes.control_plane import ControlPlane
from imago_operator.kubernetes import Changed, KubernetesUnavailable, namespace_path, secret_path
from tests.support.operator import condition, rules
from tests.support.operator_world import (
    DOOMED,
    DOOMED_TOO,
    RELEASE,
    TENANTS,
    World,
    key_of,
    other_key,
)


async def test_conflicts_with_somebody_who_writes_the_same_objects_lose_no_key(world: World) -> None:
    name = world.name()
    await world.kube.make(TENANTS, name)
    await world.kube.ready(TENANTS, name)
    path, writes = secret_path(TENANTS, f"{name}-imago"), 0

    async def meddle() -> None:
        nonlocal writes
        while True:
            writes += 1
            with contextlib.suppress(Changed, KubernetesUnavailable):
                await world.kube.patch(path, {"metadata": {"annotations": {"meddled": str(writes)}}})
                await world.kube.annotate(TENANTS, name, {"meddled": str(writes)})
            await asyncio.sleep(0.2)

    meddling = asyncio.create_task(meddle())
    try:
        key = await key_of(world, TENANTS, name)
        for turn in range(3):
            before = writes
            await world.kube.annotate(TENANTS, name, {"imago.dev/rotate": str(turn)})
            key = await other_key(world, name, key, timeout=90)

            async def meddled(before: int = before) -> bool:
                return writes > before

            await world.kube.until(meddled, what="somebody to write meanwhile")
    finally:
        meddling.cancel()
    assert await world.imago.opens(key)
    detail = await world.imago.client((await world.kube.ready(TENANTS, name))["status"]["clientId"])
    assert detail is not None
    assert [item["key_id"] for item in detail["keys"] if item["expires_at"] is None] == [key.split("_")[1]]


async def test_a_restart_of_the_api_server_is_survived(own_control_plane: ControlPlane, world: World) -> None:
    process = world.operator.pid
    own_control_plane.api_server.kill()
    # From this thread: the daemon dies with the thread that started it.
    own_control_plane.start_api_server()
    name = world.name()

    async def made() -> bool:
        with contextlib.suppress(KubernetesUnavailable):
            await world.kube.make(TENANTS, name)
        return True

    await world.kube.until(made, what="the API server to take a resource")
    await world.kube.ready(TENANTS, name, timeout=120)
    assert await world.imago.opens(await key_of(world, TENANTS, name))
    assert world.operator.pid == process, "without a restart of the operator"


async def test_a_namespace_that_goes_while_imago_is_away_waits_and_then_goes_and_others_are_served_on(
    world: World,
) -> None:
    name = world.name()
    await world.kube.make(DOOMED, name)
    ready = await world.kube.ready(DOOMED, name)
    world.platform.apis[0].stop()
    await world.kube.delete(namespace_path(DOOMED))

    async def waits() -> bool:
        found = await world.kube.imc(DOOMED, name)
        told = condition(found or {}, "Ready")
        # Other passes find Imago away too; it is the deletion's that names the way out.
        return told.get("reason") == "ApiUnavailable" and "imago.dev/abandon" in told["message"]

    await world.kube.until(waits, what="the deletion to wait for Imago and name the way out", of=(DOOMED, name))
    await world.start_api()
    await gone(world, DOOMED)
    detail = await world.imago.client(ready["status"]["clientId"])
    assert detail is not None
    assert not detail["active"]
    other = world.name()
    await world.kube.make(TENANTS, other)
    await world.kube.ready(TENANTS, other, timeout=90)


async def test_a_namespace_made_anew_by_the_same_name_is_served_again_and_is_another_owner(world: World) -> None:
    name = world.name()
    await world.kube.make(DOOMED_TOO, name)
    client = (await world.kube.ready(DOOMED_TOO, name))["status"]["clientId"]
    await world.kube.delete(namespace_path(DOOMED_TOO))
    await gone(world, DOOMED_TOO)
    await world.kube.new_namespace(DOOMED_TOO)
    granted = [entry for entry in rules(RELEASE, [DOOMED_TOO]) if entry["metadata"].get("namespace") == DOOMED_TOO]
    await asyncio.to_thread(world.cluster.apply, *granted)
    await world.kube.make(DOOMED_TOO, name, clientId=client)
    await world.kube.ready(DOOMED_TOO, name, reason="ClientOwned", timeout=90)


async def test_it_says_that_it_lives_and_shows_its_metrics(world: World) -> None:
    name = world.name()
    await world.kube.make(TENANTS, name)
    await world.kube.ready(TENANTS, name)
    assert "alive" in await asyncio.to_thread(read, f"http://127.0.0.1:{world.operator.liveness_port}/healthz")
    shown = await asyncio.to_thread(read, f"http://127.0.0.1:{world.operator.metrics_port}/metrics")
    for metric in ("reconciles_total", "errors_total", "reconcile_duration_seconds", "clients"):
        assert f"imago_operator_{metric}" in shown
    assert 'condition="Ready",reason="Reconciled",status="True"' in shown
    assert name not in shown, "no label names a client"


async def gone(world: World, namespace: str) -> None:
    async def look() -> bool:
        return await world.kube.get(namespace_path(namespace)) is None

    await world.kube.until(look, what=f"namespace {namespace} to be gone", timeout=120)


def read(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()
