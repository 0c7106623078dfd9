"""Large uploads, slow senders and full lanes: one client's load must not slow down the others."""

import asyncio
import statistics
import time
from collections.abc import Sequence

import aiohttp
import pytest

from devtools.waiting import until
from tests.faults.client import Tenant, new_session, new_tenant, photo
from tests.faults.drippers import drippers
from tests.faults.figures import Figures
from tests.faults.platform import Platform

MB = 2**20

SLOW_SENDERS = 500


async def test_twenty_concurrent_large_uploads_cost_little_memory(
    platform: Platform, tenant: Tenant, figures: Figures
) -> None:
    api = platform.apis[0]
    api.stop()
    api.start(UPLOAD_TOTAL_TIMEOUT="120", INTENT_TTL="130")
    # The first upload causes one-time allocations.
    assert (await tenant.upload_once(photo(0), api=0)).status == 201
    before = api.peak_memory()
    # A photo followed by a long trailer, as in motion photos.
    large = photo(1) + bytes(int(49.5 * MB))
    answers = await asyncio.gather(*(tenant.upload_once(large, api=0) for _ in range(20)))
    assert [answer.status for answer in answers] == [201] * 20
    figures.note("20 uploads of 50 MB: memory of the API before (MiB)", before / MB)
    figures.hold("20 uploads of 50 MB: memory of the API up by (MiB)", (api.peak_memory() - before) / MB, "<=", 100)
    for answer in answers:
        await tenant.call("DELETE", f"/images/{answer.body['id']}")
    api.stop()


async def test_slow_senders_do_not_slow_down_others(platform: Platform, tenant: Tenant, figures: Figures) -> None:
    api = platform.apis[0]
    api.stop()
    # Slow enough to be disconnected, but not while the others are timed.
    api.start(UPLOAD_TOTAL_TIMEOUT="240", INTENT_TTL="250", UPLOAD_MIN_RATE="0")
    assert api.port is not None
    await _p99(tenant)
    baseline = [await _p99(tenant) for _ in range(3)]
    async with drippers(api.port, tenant.key, SLOW_SENDERS) as senders:
        # Starting an upload costs work; the dripping must cost nothing.
        beginning = await _p99(tenant)
        await _under_way(tenant, at_least=SLOW_SENDERS)
        beside = [await _p99(tenant) for _ in range(5)]
        await _under_way(tenant, at_least=SLOW_SENDERS)
        assert senders.returncode is None, "the slow senders were disconnected while the others were timed"
    await _under_way(tenant, at_most=0)
    baseline += [await _p99(tenant) for _ in range(3)]
    times = statistics.median(beside) / statistics.median(baseline)
    figures.hold(f"{SLOW_SENDERS} slow uploads: p99 of the others, times", times, "<=", 2)
    figures.note(
        f"{SLOW_SENDERS} uploads started together: p99 of the others, times", beginning / statistics.median(baseline)
    )
    api.stop()


async def test_slow_senders_are_disconnected(platform: Platform, tenant: Tenant, figures: Figures) -> None:
    port = platform.apis[0].port
    assert port is not None
    async with drippers(port, tenant.key, 50) as senders:
        began = time.monotonic()
        async with asyncio.timeout(60):
            await senders.wait()
        figures.note("slow uploads: cut off after (s; UPLOAD_TOTAL_TIMEOUT is 8)", time.monotonic() - began)
    await _under_way(tenant, at_most=0)


async def _under_way(tenant: Tenant, *, at_least: int = 0, at_most: int = 1_000_000) -> None:
    async def reached() -> bool:
        count = "SELECT count(*) FROM upload_intents WHERE client_id = :c"
        return at_least <= await asyncio.to_thread(tenant.platform.scalar, count, c=tenant.number) <= at_most

    await until(reached, what=f"{at_least} to {at_most} uploads to be in progress", timeout=60, interval=0.5)


async def _p99(tenant: Tenant) -> float:
    times = []
    # Connections are kept alive, as behind a load balancer; only the response is timed.
    async with aiohttp.ClientSession(headers={"X-API-Key": tenant.key}) as session:
        for _ in range(300):
            began = time.perf_counter()
            async with session.get(f"{tenant.platform.apis[0].url}/images?limit=1") as answer:
                assert answer.status == 200
                await answer.read()
            times.append(time.perf_counter() - began)
    return statistics.quantiles(times, n=100)[98]


@pytest.mark.timeout(900)
async def test_premium_waits_little_behind_a_standard_backlog_and_standard_keeps_its_share(
    platform: Platform, session: aiohttp.ClientSession, figures: Figures, full: bool
) -> None:
    backlog = 5000 if full else 800
    pipeline = {"stages": ["exif"]}
    standard = await new_tenant(platform, session, pipeline=pipeline)
    premium = await new_tenant(platform, session, plan="premium", pipeline=pipeline)
    platform.workers["exif"].stop()
    await _fill(standard, backlog)
    await _fill(premium, backlog // 4)
    platform.workers["exif"].start()

    async def premium_done() -> bool:
        return await asyncio.to_thread(_open_stages, premium) == 0

    await until(premium_done, what="the premium backlog to be processed", timeout=600, interval=0.2)
    share = _share_of_standard(standard, premium)
    figures.hold("lanes: standard's share while premium waits", share, ">=", 0.1)
    assert _open_stages(standard) > 0, "the standard backlog ended too early to measure anything"
    numbers = []
    while _open_stages(standard) > backlog // 20 and len(numbers) < 200:
        numbers.append((await premium.upload(photo(len(numbers)))).image_id)
        await asyncio.sleep(0.1)
    await premium.all_ended(timeout=120)
    waits = [
        float(row["wait"])
        for row in platform.query(
            "SELECT extract(epoch FROM s.started_at - i.created_at)::float8 AS wait FROM image_stages s "
            "JOIN images i ON i.id = s.image_id WHERE s.client_id = :c AND s.stage = 'exif' AND i.id = ANY(:ids)",
            c=premium.number,
            ids=numbers,
        )
    ]
    assert len(waits) >= 10, "too few premium images for a percentile"
    figures.hold(f"lanes: premium's wait behind {backlog} standard jobs, p95 (s)", _p95(waits), "<=", 5)
    figures.note("lanes: premium images measured", len(waits))
    await standard.all_ended(timeout=600)


async def _fill(tenant: Tenant, count: int) -> None:
    """Upload many images concurrently."""
    numbers = iter(range(count))
    async with new_session() as session:
        fast = Tenant(tenant.platform, session, tenant.uuid, tenant.key, tenant.number)

        async def uploader() -> None:
            for number in numbers:
                await fast.upload(photo(number))

        await asyncio.gather(*(uploader() for _ in range(16)))


def _open_stages(tenant: Tenant) -> int:
    return int(
        tenant.platform.scalar(
            "SELECT count(*) FROM image_stages WHERE client_id = :c AND status IN ('pending', 'running', 'retrying')",
            c=tenant.number,
        )
    )


def _share_of_standard(standard: Tenant, premium: Tenant) -> float:
    """Return the share of standard jobs among those done while premium jobs waited."""
    rows = standard.platform.query(
        "SELECT count(*) FILTER (WHERE client_id = :s) AS standard, count(*) AS every FROM image_stages "
        "WHERE client_id IN (:s, :p) AND done_at <= (SELECT max(done_at) FROM image_stages WHERE client_id = :p)",
        s=standard.number,
        p=premium.number,
    )
    return float(rows[0]["standard"]) / float(rows[0]["every"])


def _p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20)[18]
