"""Random SIGKILLs of all processes under load: no accepted image is lost, no result is stored twice, all end."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.faults.checks import check_all, cleaned
from tests.faults.client import Tenant, photo
from tests.faults.figures import Figures
from tests.faults.platform import Platform, Process

SEED = 20261123

# A rate that the workers keep up with, so that the time after the last kill does not measure a backlog.
UPLOADS_PER_SECOND = 6.0
UPLOADERS = 8


@pytest.mark.timeout(7200)
async def test_nothing_is_lost_while_everything_is_killed_at_random(
    platform: Platform, tenant: Tenant, figures: Figures, full: bool
) -> None:
    uploads, kills = (10_000, 60) if full else (500, 10)
    chance = random.Random(SEED)
    uploading = asyncio.create_task(_upload(tenant, uploads))
    killed: Counter[str] = Counter()
    targets = _targets(platform, chance)
    pause = uploads / UPLOADS_PER_SECOND / (kills + 1)
    while not uploading.done() or killed.total() < kills:
        await asyncio.sleep(chance.uniform(0.5, 1.5) * pause)
        killed[await _kill_one(platform, next(targets), chance)] += 1
    last = time.monotonic()
    await uploading
    await tenant.all_ended(timeout=120)
    figures.hold("random kills: all images ended after the last kill (s)", time.monotonic() - last, "<=", 120)
    await cleaned(tenant, timeout=60)
    for process in platform.processes:
        assert process.running, f"{process.name} exited unexpectedly, see {process.log}"
    for api in platform.apis:
        # The process killed last may still be starting.
        await asyncio.to_thread(api.wait_ready)
    await check_all(tenant)
    counts = tenant.counts()
    figures.hold("random kills: accepted uploads lost", uploads - counts.get("done", 0), "<=", 0)
    figures.hold("random kills: stages with two results", _doubled(platform, tenant), "<=", 0)
    dead = platform.scalar("SELECT count(*) FROM dead_letters WHERE client_id = :c", c=tenant.number)
    figures.hold("random kills: dead letters", dead, "<=", 0)
    figures.note("random kills: uploads", uploads)
    figures.note("random kills: kills", ", ".join(f"{name} {count}" for name, count in sorted(killed.items())))
    tries = Counter(status for done in tenant.journal for status in done.attempts)
    figures.note("random kills: responses (0 is a broken connection)", str(dict(sorted(tries.items()))))
    again = platform.scalar("SELECT count(*) FROM image_stages WHERE client_id = :c AND claim > 1", c=tenant.number)
    figures.note("random kills: stages started more than once", again)


async def _upload(tenant: Tenant, count: int) -> None:
    """Upload at an even pace, and retry each upload until it is accepted."""
    began, numbers = time.monotonic(), iter(range(count))

    async def uploader() -> None:
        for number in numbers:
            await asyncio.sleep(max(0.0, began + number / UPLOADS_PER_SECOND - time.monotonic()))
            await tenant.upload(photo(number), give_up_after=300)

    await asyncio.gather(*(uploader() for _ in range(UPLOADERS)))


def _targets(platform: Platform, chance: random.Random) -> Iterator[str]:
    """Yield all processes in random order, repeatedly."""
    while True:
        names = [*(process.name for process in platform.processes), "nats", "postgres"]
        chance.shuffle(names)
        yield from names


async def _kill_one(platform: Platform, name: str, chance: random.Random) -> str:
    """Kill a process, and restart it after a moment, as an orchestrator does."""
    rest = chance.uniform(0.0, 2.0)
    kill, start = _handle(platform, name)
    await asyncio.to_thread(kill)
    await asyncio.sleep(rest)
    await asyncio.to_thread(start)
    return name.split("-")[0]


def _handle(platform: Platform, name: str) -> tuple[Callable[[], None], Callable[[], None]]:
    if name == "nats":
        return platform.nats.kill, platform.nats.start
    if name == "postgres":
        return platform.postgres.kill, platform.postgres.start
    process: Process = next(process for process in platform.processes if process.name == name)
    return process.kill, lambda: process.start(wait=False)


def _doubled(platform: Platform, tenant: Tenant) -> int:
    rows = platform.query(
        "SELECT image_id, stage FROM stage_results WHERE client_id = :c GROUP BY image_id, stage HAVING count(*) > 1",
        c=tenant.number,
    )
    return len(rows)
