"""The operator's latency, a burst of resources, and repeated SIGKILLs."""

import asyncio
import random
import statistics
import time
from typing import Any

import psutil

from imago.core.clients import keys
from imago_operator.apis.kubernetes import secret_path
from tests.faults.figures import Figures
from tests.support.operator import condition, decoded, imc_path
from tests.support.operator_world import TENANTS, OperatorCluster

APPLIES, CROWD, KILLS = 20, 200, 20


async def resources(world: OperatorCluster, prefix: str) -> list[Any]:
    """Return the resources whose names have a prefix."""
    found = (await world.kube.get(imc_path(TENANTS)) or {})["items"]
    return [item for item in found if item["metadata"]["name"].startswith(prefix)]


async def all_ready(world: OperatorCluster, prefix: str, count: int) -> bool:
    found = await resources(world, prefix)
    return len(found) == count and all(condition(item, "Ready").get("status") == "True" for item in found)


async def inconsistencies(world: OperatorCluster, prefix: str) -> list[str]:
    """Return a description of each inconsistency between the clients, keys and Secrets of a prefix."""
    wrong: list[str] = []
    secrets = (await world.kube.get(secret_path(TENANTS)) or {})["items"]
    managed = {
        item["metadata"]["name"]: decoded(item) for item in secrets if item["metadata"]["name"].startswith(prefix)
    }
    found = await resources(world, prefix)
    rows = world.platform.query(
        "SELECT c.uuid, c.owner, k.key_id, k.expires_at IS NULL AND k.revoked_at IS NULL AS endless"
        " FROM clients c LEFT JOIN api_keys k ON k.client_id = c.id WHERE c.owner LIKE :owner",
        owner=f"%/{prefix}%",
    )
    clients = {str(row["uuid"]) for row in rows}
    if clients != {item["status"]["clientId"] for item in found}:
        wrong.append(f"{len(clients)} clients for {len(found)} resources")
    if len(managed) != len(found):
        wrong.append(f"{len(managed)} Secrets for {len(found)} resources")
    for item in found:
        held = managed.get(f"{item['metadata']['name']}-imago", {})
        key = keys.parse(held.get("api-key", ""))
        endless = [row["key_id"] for row in rows if str(row["uuid"]) == item["status"]["clientId"] and row["endless"]]
        if key is None or "next-api-key" in held or endless != [key.key_id]:
            wrong.append(f"{item['metadata']['name']}: contains {sorted(held)}, keys without expiry {endless}")
    return wrong


async def count_accepted(world: OperatorCluster, prefix: str) -> int:
    """Return how many keys in Secrets are accepted."""
    secrets = (await world.kube.get(secret_path(TENANTS)) or {})["items"]
    held = [decoded(item)["api-key"] for item in secrets if item["metadata"]["name"].startswith(prefix)]
    return sum(await asyncio.gather(*(world.imago.is_accepted(key) for key in held)))


async def clear(world: OperatorCluster, prefix: str) -> None:
    names = [item["metadata"]["name"] for item in await resources(world, prefix)]
    await asyncio.gather(*(world.kube.drop(TENANTS, name) for name in names))

    async def cleared() -> bool:
        return not await resources(world, prefix)

    await world.kube.until(cleared, what=f"all of {prefix} to be gone", timeout=120)


async def test_from_apply_to_ready(world: OperatorCluster, figures: Figures) -> None:
    times = []
    for number in range(APPLIES):
        began = time.monotonic()
        await world.kube.make(TENANTS, f"quick-{number}")
        await world.kube.ready(TENANTS, f"quick-{number}")
        times.append(time.monotonic() - began)
    median = statistics.median(times)
    figures.figures["operator: apply to Ready, slowest of 20, s"] = round(max(times), 2)
    await clear(world, "quick-")
    figures.hold("operator: apply to Ready, median of 20, s", median, "<=", 3)


async def test_a_burst_of_two_hundred_resources_becomes_ready(world: OperatorCluster, figures: Figures) -> None:
    api = psutil.Process(world.platform.apis[0].pid)
    before_api, before = sum(api.cpu_times()[:2]), world.operator.cpu_seconds()
    began = time.monotonic()
    await asyncio.gather(*(world.kube.make(TENANTS, f"crowd-{number}") for number in range(CROWD)))

    async def look() -> bool:
        return await all_ready(world, "crowd-", CROWD)

    await world.kube.until(look, what="all to be Ready", timeout=300)
    took = time.monotonic() - began
    figures.figures |= {
        "operator: 200 concurrent ImagoClients, all Ready after, s": round(took, 1),
        "operator: CPU of the operator for 200, s": round(world.operator.cpu_seconds() - before, 1),
        "operator: CPU of the API for 200, s": round(sum(api.cpu_times()[:2]) - before_api, 1),
    }
    assert await inconsistencies(world, "crowd-") == []
    assert await count_accepted(world, "crowd-") == CROWD
    await clear(world, "crowd-")


async def test_kills_at_random_moments_lose_no_key_and_register_none_twice(
    world: OperatorCluster, figures: Figures
) -> None:
    chance = random.Random(5)
    made = 0
    for kill in range(KILLS):
        await asyncio.to_thread(world.operator.wait_running)
        # New resources, rotations and deleted Secrets, all in progress when the operator is killed.
        await asyncio.gather(*(world.kube.make(TENANTS, f"killed-{made + number}") for number in range(4)))
        made += 4
        victims = chance.sample(range(made), 2)
        await world.kube.annotate(TENANTS, f"killed-{victims[0]}", {"imago.dev/rotate": f"kill {kill}"})
        await world.kube.delete(secret_path(TENANTS, f"killed-{victims[1]}-imago"))
        await asyncio.sleep(chance.uniform(0, 1.5))
        world.operator.kill()
        world.operator.start()

    async def look() -> bool:
        return await all_ready(world, "killed-", made) and not await inconsistencies(world, "killed-")

    try:
        await world.kube.until(look, what="all to be Ready and consistent", timeout=240)
    finally:
        wrong = await inconsistencies(world, "killed-")
    assert wrong == []
    assert await count_accepted(world, "killed-") == made
    twice = world.platform.scalar(
        "SELECT count(*) FROM (SELECT a.details->>'key_id' AS key"
        " FROM audit_log a JOIN clients c ON c.uuid = a.client_uuid WHERE a.action = 'key.registered'"
        " AND c.owner LIKE '%/killed-%' GROUP BY 1 HAVING count(*) > 1) AS again"
    )
    await clear(world, "killed-")
    figures.figures["operator: SIGKILLs at random moments"] = KILLS
    figures.hold("operator: clients without exactly one working key after SIGKILLs", len(wrong), "==", 0)
    figures.hold("operator: keys registered twice", int(twice), "==", 0)
