"""Dependencies that are unavailable, hang, fail or are full; messages delivered three times; duplicate processes."""

import asyncio
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from devtools.postgres import RUNTIME
from devtools.waiting import until
from imago.nats.connection import NatsConnection
from imago.settings import Settings
from tests.faults.checks import check_all, check_images, check_results, check_usage, cleaned
from tests.faults.client import Answer, Tenant, new_tenant, photo
from tests.faults.figures import Figures
from tests.faults.platform import Platform
from tests.faults.proxy import Mode


@asynccontextmanager
async def uploading(tenant: Tenant, *, pause: float = 0.15) -> AsyncIterator[Counter[int]]:
    """Upload images in a loop inside the block; yield the counts of statuses, including retries."""
    stop = asyncio.Event()
    statuses: Counter[int] = Counter()

    async def load() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            done = await tenant.upload(photo(number))
            statuses.update(done.attempts)
            await asyncio.sleep(pause)

    loading = asyncio.create_task(load())
    try:
        yield statuses
    finally:
        stop.set()
        await loading


async def flowing(tenant: Tenant, *, what: str) -> float:
    """Wait until jobs finish again; return how many seconds it took."""
    began, before = time.monotonic(), tenant.counts().get("done", 0)

    async def more() -> bool:
        return (await asyncio.to_thread(tenant.counts)).get("done", 0) > before

    await until(more, what=what, timeout=60, interval=0.1)
    return time.monotonic() - began


async def test_an_outage_of_nats_refuses_no_upload_and_leaves_no_work_behind(
    platform: Platform, tenant: Tenant, figures: Figures, full: bool
) -> None:
    outage = 60 if full else 8
    async with uploading(tenant) as statuses:
        await asyncio.sleep(1)
        platform.nats.kill()
        await asyncio.sleep(outage)
        await asyncio.to_thread(platform.nats.start)
        figures.hold(
            f"NATS unavailable for {outage} s: jobs finish after its return (s)",
            await flowing(tenant, what="jobs to finish again"),
            "<=",
            10,
        )
    figures.hold("NATS unavailable: uploads refused with 5xx", sum(statuses.values()) - statuses[201], "<=", 0)
    await tenant.all_ended(timeout=120)
    left = platform.scalar("SELECT count(*) FROM outbox WHERE client_id = :c", c=tenant.number)
    figures.hold("NATS unavailable: rows left in the outbox", left, "<=", 0)
    tries = platform.scalar("SELECT max(attempts) FROM image_stages WHERE client_id = :c", c=tenant.number)
    figures.hold("NATS unavailable: attempts of the most attempted stage", tries, "<=", 1)
    await check_all(tenant)


async def test_requests_get_503_within_the_timeout_while_the_database_hangs(
    platform: Platform, tenant: Tenant, figures: Figures
) -> None:
    for number in range(5):
        await tenant.upload(photo(number))
    platform.postgres_proxy.set(Mode.HANG)
    answers: list[tuple[Answer, float]] = []

    async def ask(number: int) -> None:
        began = time.monotonic()
        answer = await tenant.upload_once(photo(number), key=f"hang-{number}")
        answers.append((answer, time.monotonic() - began))

    await asyncio.gather(*(ask(number) for number in range(10)))
    platform.postgres_proxy.set(Mode.PASS)
    assert {answer.status for answer, _ in answers} == {503}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer, _ in answers)
    figures.hold("PostgreSQL hanging: slowest 503 (s; its timeout is 5)", max(s for _, s in answers), "<=", 15)
    await tenant.all_ended(timeout=60)
    await cleaned(tenant)
    await check_all(tenant)


async def test_every_message_three_times_in_random_order_is_done_once(platform: Platform, tenant: Tenant) -> None:
    for worker in platform.workers.values():
        worker.stop()
    for number in range(15):
        await tenant.upload(photo(number))

    async def published() -> bool:
        return platform.scalar("SELECT count(*) FROM outbox WHERE client_id = :c", c=tenant.number) == 0

    await until(published, what="the work to be in the stream")
    nats = NatsConnection(Settings(nats_url=(platform.nats.url,)), name="api")
    await nats.start()
    await nats.wait_connected(10)
    rows = platform.query("SELECT stream, sequence FROM image_stages WHERE client_id = :c", c=tenant.number)
    messages = [await nats.js.get_msg(row["stream"], row["sequence"]) for row in rows]
    copies = [(message, copy) for message in messages for copy in ("first", "second", "third")]
    random.Random(7).shuffle(copies)
    # Meanwhile the reconciler may find messages missing, and publish some a fourth time.
    for row in rows:
        await nats.js.delete_msg(row["stream"], row["sequence"])
    for message, copy in copies:
        headers = {**(message.headers or {}), "Nats-Msg-Id": f"{(message.headers or {})['Nats-Msg-Id']}:{copy}"}
        await nats.js.publish(message.subject or "", message.data or b"", headers=headers)
    await nats.close()
    platform.start()
    await tenant.all_ended(timeout=60)
    assert platform.scalar("SELECT max(claim) FROM image_stages WHERE client_id = :c", c=tenant.number) == 1
    await check_all(tenant)


async def test_concurrent_migrations_make_one_schema(platform: Platform, tmp_path: Path) -> None:
    fresh = Platform(tmp_path / "fresh", apis=0, migrated=False)
    try:
        owner = {"DATABASE_URL": fresh.owner_url, "DATABASE_RUNTIME_ROLE": RUNTIME}
        commands = [fresh.begin("migrate", **owner) for _ in range(6)]
        codes = [await asyncio.to_thread(command.wait, 60) for command in commands]
        assert codes == [0] * 6
        assert fresh.scalar("SELECT count(*) FROM alembic_version") == 1
    finally:
        fresh.close()


async def test_relays_and_reconcilers_side_by_side_do_nothing_twice(platform: Platform, tenant: Tenant) -> None:
    # With short intervals, so that they meet at the same rows as often as possible.
    platform.restart(RELAY_INTERVAL="0.05", RECONCILE_INTERVAL="0.2")
    async with uploading(tenant, pause=0.02):
        for _ in range(3):
            await asyncio.sleep(1)
            platform.nats.kill()
            await asyncio.sleep(0.5)
            await asyncio.to_thread(platform.nats.start)
    await tenant.all_ended(timeout=90)
    await check_all(tenant)
    platform.restart()


async def test_sigterm_under_load_fails_no_request_and_repeats_no_work(
    platform: Platform, tenant: Tenant, figures: Figures
) -> None:
    platform.restart(DRAIN_DELAY="1")
    stop = asyncio.Event()
    ready = set(range(len(platform.apis)))
    failures: list[Answer] = []

    async def watch(index: int, session: aiohttp.ClientSession) -> None:
        # A load balancer polls often, and sends nothing to a process that is not ready.
        while not stop.is_set():
            try:
                async with session.get(f"{platform.apis[index].url}/health/ready") as answer:
                    good = answer.status == 200
            except (aiohttp.ClientError, TimeoutError):
                good = False
            (ready.add if good else ready.discard)(index)
            await asyncio.sleep(0.1)

    async def load(offset: int) -> None:
        number = offset
        while not stop.is_set():
            number += 10
            index = sorted(ready)[number % len(ready)]
            answer = await balanced.upload_once(photo(number), api=index)
            if answer.status != 201:
                failures.append(answer)
            await asyncio.sleep(0.4)

    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as kept,
    ):
        # A load balancer keeps connections alive, so one may close during a request.
        balanced = Tenant(platform, kept, tenant.uuid, tenant.key, tenant.number)
        tasks = [asyncio.create_task(watch(index, session)) for index in range(len(platform.apis))]
        tasks += [asyncio.create_task(load(offset)) for offset in range(3)]
        slowest = 0.0
        for process in platform.processes:
            await asyncio.sleep(1)
            slowest = max(slowest, await asyncio.to_thread(process.stop))
            await asyncio.to_thread(lambda process=process: process.start(DRAIN_DELAY="1"))  # type: ignore[misc]
            await asyncio.sleep(1)
        stop.set()
        await asyncio.gather(*tasks)
    figures.hold("SIGTERM under load: requests that failed", len(failures), "<=", 0)
    await tenant.all_ended(timeout=60)
    again = platform.scalar("SELECT count(*) FROM image_stages WHERE client_id = :c AND claim > 1", c=tenant.number)
    figures.hold("SIGTERM under load: stages started twice", again, "<=", 0)
    figures.note("SIGTERM under load: slowest process to end (s)", slowest)
    platform.restart()


@pytest.fixture(scope="module")
def on_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """An installation that stores objects in S3."""
    built = Platform(tmp_path_factory.mktemp("on-s3"), s3=True, apis=1, S3_TIMEOUT="1")
    try:
        built.start()
        yield built
    finally:
        built.close()


@pytest.mark.parametrize("mode", [Mode.ERROR, Mode.HANG, Mode.REFUSE])
async def test_while_s3_fails_uploads_get_503_and_no_attempt_is_lost(
    on_s3: Platform, session: aiohttp.ClientSession, figures: Figures, mode: Mode
) -> None:
    assert on_s3.s3_proxy is not None
    tenant = await new_tenant(on_s3, session)
    for worker in on_s3.workers.values():
        worker.stop()
    before = [await tenant.upload(photo(number)) for number in range(4)]
    on_s3.s3_proxy.set(mode)
    for worker in on_s3.workers.values():
        worker.start()
    began = time.monotonic()
    try:
        answers = await asyncio.gather(*(tenant.upload_once(photo(number)) for number in range(4)))
        slowest = time.monotonic() - began
        # The workers meet the failure, too, with images accepted before.
        await asyncio.sleep(3)
    finally:
        on_s3.s3_proxy.set(Mode.PASS)
    assert {answer.status for answer in answers} == {503}, answers
    figures.hold(f"S3 {mode}: slowest 503 (s)", slowest, "<=", 30)
    figures.hold(f"S3 {mode}: an upload is accepted again after (s)", await _accepted_again(tenant), "<=", 15)
    await tenant.all_ended(timeout=90)
    assert len(before) + 1 == len(tenant.journal)
    check_images(tenant, frozenset({"done"}))
    check_results(tenant)
    check_usage(tenant)
    tries = on_s3.scalar("SELECT max(attempts) FROM image_stages WHERE client_id = :c", c=tenant.number)
    figures.hold(f"S3 {mode}: attempts of the most attempted stage", tries, "<=", 1)


async def _accepted_again(tenant: Tenant) -> float:
    began = time.monotonic()
    await tenant.upload(photo(99))
    return time.monotonic() - began


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system can only be mounted by root")
async def test_while_storage_is_full_uploads_get_503_and_nothing_is_lost(
    tmp_path: Path, session: aiohttp.ClientSession, figures: Figures
) -> None:
    objects = tmp_path / "small" / "objects"
    objects.mkdir(parents=True)
    if not await asyncio.to_thread(_run, "mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", objects):
        pytest.skip("this machine mounts no tmpfs")
    small = Platform(tmp_path / "small", apis=1)
    try:
        small.start()
        tenant = await new_tenant(small, session)
        first = [await tenant.upload(photo(number)) for number in range(3)]
        ballast = objects / "ballast"
        await asyncio.to_thread(_fill, ballast)
        large = photo(4) + bytes(2**20)
        answers = [await tenant.upload_once(large) for _ in range(4)]
        assert {answer.status for answer in answers} == {503}, answers
        ballast.unlink()
        await tenant.upload(large)
        await tenant.all_ended(timeout=60)
        assert len(tenant.journal) == len(first) + 1
        await cleaned(tenant)
        await check_all(tenant)
        tries = small.scalar("SELECT max(attempts) FROM image_stages WHERE client_id = :c", c=tenant.number)
        figures.hold("storage full: attempts of the most attempted stage", tries, "<=", 1)
    finally:
        small.close()
        assert await asyncio.to_thread(_run, "umount", "--lazy", objects)


def _run(*command: object) -> bool:
    return subprocess.run([str(part) for part in command], capture_output=True, check=False).returncode == 0


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return
