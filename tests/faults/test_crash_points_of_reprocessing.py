"""Crash points C21 to C24 of docs/reliability.md: the process that runs reprocess jobs dies or freezes at each step."""

import asyncio
import random
import signal
from typing import Any

import pytest

from devtools.waiting import until
from tests.faults.checks import check_all
from tests.faults.client import Tenant
from tests.faults.figures import Figures
from tests.faults.platform import ADMIN_KEY, Platform
from tests.faults.steps import arm, uploaded

ADMIN = {"X-API-Key": ADMIN_KEY}
PATH = "/admin/reprocess-jobs"


async def stored(tenant: Tenant, count: int) -> None:
    """Upload photos and wait until their stages have ended."""
    for number in range(count):
        await uploaded(tenant, 2000 + number)
    await tenant.all_ended(timeout=120)


async def suspended_job(tenant: Tenant) -> int:
    """Create a suspended job over the client's images, and return its id."""
    selection = {"stages": ["exif"], "clients": [tenant.uuid]}
    body = {"selection": selection, "images_per_minute": 6000, "suspended": True}
    answer = await tenant.call("POST", PATH, json=body, headers=ADMIN)
    assert answer.status == 201, answer
    return int(answer.body["id"])


async def resume(tenant: Tenant, *jobs: int, api: int | None = None) -> None:
    """Resume jobs; the process may die before it answers."""
    for job in jobs:
        await tenant.call("PATCH", f"{PATH}/{job}", json={"suspended": False}, headers=ADMIN, api=api)


async def completed(tenant: Tenant, job: int) -> dict[str, Any]:
    """Wait until a job is completed, and return its counts."""

    async def over() -> dict[str, Any] | None:
        answer = await tenant.call("GET", f"{PATH}/{job}", headers=ADMIN)
        if answer.status == 200 and answer.body["phase"] == "suspended":
            await resume(tenant, job)
        return answer.body if answer.status == 200 and answer.body["phase"] == "completed" else None

    document = await until(over, what=f"reprocess job {job} to be completed", timeout=90, interval=0.2)
    assert document is not None
    counts: dict[str, Any] = document["counts"]
    return counts


def runs(platform: Platform, tenant: Tenant) -> list[int]:
    """Return the run of the stage `exif` of each of the client's images."""
    statement = "SELECT run FROM image_stages WHERE client_id = :c AND stage = 'exif' ORDER BY image_id"
    return [row["run"] for row in platform.query(statement, c=tenant.number)]


@pytest.mark.usefixtures("again")
@pytest.mark.parametrize(
    "failpoint",
    [
        pytest.param("reprocess.starting", id="C21 before the commit of a run"),
        pytest.param("reprocess.queued", id="C22 before its publication"),
        pytest.param("reprocess.counting", id="C23 before the commit of the counts"),
    ],
)
async def test_a_job_whose_runner_is_killed_queues_each_image_once(
    platform: Platform, tenant: Tenant, failpoint: str
) -> None:
    await stored(tenant, 4)
    job = await suspended_job(tenant)
    platform.apis[1].stop()
    arm(platform.apis[0], f"{failpoint}=kill")
    await resume(tenant, job, api=0)
    platform.apis[0].wait_death(timeout=40)
    platform.start()
    counts = await completed(tenant, job)
    assert (counts["queued"], counts["done"], counts["skipped"]) == (4, 4, 0)
    assert runs(platform, tenant) == [2] * 4
    await check_all(tenant)


@pytest.mark.usefixtures("again")
async def test_c24_another_process_continues_the_job_of_a_frozen_one(platform: Platform, tenant: Tenant) -> None:
    await stored(tenant, 4)
    job = await suspended_job(tenant)
    platform.apis[1].stop()
    arm(platform.apis[0], "reprocess.starting=stop*1")
    await resume(tenant, job, api=0)
    platform.apis[0].wait_frozen(timeout=40)
    platform.apis[1].start()

    async def continued() -> bool:
        answer = await tenant.call("GET", f"{PATH}/{job}", headers=ADMIN, api=1)
        return answer.status == 200 and answer.body["phase"] == "completed"

    try:
        await until(continued, what="the other process to complete the job", timeout=60)
    finally:
        platform.apis[0].send(signal.SIGCONT)
    assert runs(platform, tenant) == [2] * 4
    await check_all(tenant)


async def test_jobs_over_the_same_images_survive_random_kills(
    platform: Platform, tenant: Tenant, figures: Figures, full: bool
) -> None:
    images, kills = (1000, 40) if full else (30, 4)
    await stored(tenant, images)
    jobs = [await suspended_job(tenant) for _ in range(2)]
    await resume(tenant, *jobs)
    chance = random.Random(16)
    for _ in range(kills):
        await asyncio.sleep(chance.uniform(0.1, 1.5))
        victim = chance.choice([*platform.apis, platform.workers["exif"]])
        victim.kill()
        victim.start()
    counts = [await completed(tenant, job) for job in jobs]
    again = runs(platform, tenant)
    figures.hold("reprocess jobs: images queued twice, of two jobs with kills", sum(run > 2 for run in again), "<=", 0)
    figures.hold("reprocess jobs: images never queued", sum(run < 2 for run in again), "<=", 0)
    figures.note("reprocess jobs: images, kills", f"{images}, {kills}")
    assert sum(count["queued"] for count in counts) == images
    await tenant.all_ended(timeout=60)
    await check_all(tenant)
