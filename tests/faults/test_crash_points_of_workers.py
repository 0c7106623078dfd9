"""Crash points C6 to C9, C13 and C16 of docs/reliability.md, at which workers die, freeze or are overtaken."""

import asyncio
import contextlib
import signal
import time

import psutil
import pytest
from PIL import Image

from devtools.waiting import until
from imago.nats.consumer import POLL_SECONDS
from imago.runtime.cancellation import end_tasks
from tests.faults.checks import check_all, cleaned
from tests.faults.client import Answer, Operation, Tenant, photo
from tests.faults.figures import Figures
from tests.faults.memory import memory_group
from tests.faults.platform import ACK_WAIT, Platform, Process
from tests.faults.steps import arm, drained, message_gone, pulling, stage_row, uploaded
from tests.support.images import encoded
from tests.support.pages import ENGLISH, page

pytestmark = pytest.mark.usefixtures("again")


async def test_c6_a_worker_killed_mid_stage_costs_one_redelivery(
    platform: Platform, tenant: Tenant, figures: Figures
) -> None:
    worker, other = platform.workers["ocr"], platform.extra_worker("ocr")
    arm(worker, "stage.claimed=kill")
    other.start()
    try:
        await pulling(platform, "ocr", workers=2)
        # The other worker runs, too, and must not be the one that gets the message first.
        other.send(signal.SIGSTOP)
        await asyncio.sleep(POLL_SECONDS + 0.5)
        image = await uploaded(tenant, 6)
        await asyncio.to_thread(worker.wait_death)
        began = time.monotonic()
        other.send(signal.SIGCONT)

        async def claimed_again() -> bool:
            return stage_row(platform, tenant, "ocr")["claim"] == 2

        await until(claimed_again, what="the second claim")
        figures.hold("C6 redelivered after the kill (s; ack_wait + 5)", time.monotonic() - began, "<=", ACK_WAIT + 5)
        await tenant.ended(image)
        assert stage_row(platform, tenant, "ocr")["attempts"] == 2
        await check_all(tenant)
    finally:
        other.stop()


async def test_c6_a_worker_killed_by_the_kernel_for_its_memory_costs_one_redelivery(
    platform: Platform, tenant: Tenant
) -> None:
    worker = platform.workers["ocr"]
    arm(worker, "stage.claimed=stop*1")
    image = await uploaded(tenant, 6)
    await asyncio.to_thread(worker.wait_frozen)
    with memory_group() as group:
        group.add(worker.pid)
        # The worker is in the middle of its stage while another process of its group uses up the memory.
        group.exhaust()
        worker.wait_death()
    worker.start()
    await tenant.ended(image)
    row = stage_row(platform, tenant, "ocr")
    assert (row["claim"], row["attempts"]) == (2, 2)
    await check_all(tenant)


async def test_c6_a_file_that_kills_its_worker_each_time_is_dead_lettered_and_other_stages_finish(
    platform: Platform, tenant: Tenant
) -> None:
    worker = platform.workers["ocr"]
    arm(worker, "stage.claimed=kill")
    poison = await uploaded(tenant, 6)
    for _ in range(3):
        await asyncio.to_thread(worker.wait_death)
        worker.start(FAILPOINTS="stage.claimed=kill")

    async def dead_lettered() -> bool:
        return stage_row(platform, tenant, "ocr")["status"] == "dead"

    # A fourth start would kill it like the three before.
    await until(dead_lettered, what="the dead letter", timeout=30)
    assert worker.running
    row = stage_row(platform, tenant, "ocr")
    assert (row["claim"], row["attempts"], row["error_code"]) == (3, 3, "worker-lost")
    document = await tenant.ended(poison, statuses=("partial",))
    assert {document["stages"][name]["status"] for name in ("thumbnail", "exif", "vision")} == {"done"}
    arm(worker, "")
    good = await uploaded(tenant, 7)
    await tenant.ended(good)
    await check_all(tenant, statuses=frozenset({"done", "partial"}))


async def test_c7_a_worker_killed_after_its_commit_does_nothing_twice(platform: Platform, tenant: Tenant) -> None:
    worker = platform.workers["vision"]
    arm(worker, "stage.committed=kill")
    image = await uploaded(tenant, 7)
    worker.wait_death()
    worker.start()
    await tenant.ended(image)
    await message_gone(platform, tenant, "vision")
    assert stage_row(platform, tenant, "vision")["claim"] == 1, "the provider was called a second time"
    await check_all(tenant)


async def test_c8_a_lost_ack_does_nothing_twice(platform: Platform, tenant: Tenant) -> None:
    worker = platform.workers["vision"]
    arm(worker, "stage.acking=skip*1")
    image = await uploaded(tenant, 8)
    await tenant.ended(image)
    await message_gone(platform, tenant, "vision")
    assert stage_row(platform, tenant, "vision")["claim"] == 1
    await check_all(tenant)


async def test_c9_the_late_write_of_a_frozen_worker_is_refused(platform: Platform, tenant: Tenant) -> None:
    frozen, other = platform.workers["ocr"], platform.extra_worker("ocr")
    arm(frozen, "stage.worked=stop*1")
    image = await uploaded(tenant, 9)
    await asyncio.to_thread(frozen.wait_frozen)
    other.start()
    try:
        await tenant.ended(image)
        before = stage_row(platform, tenant, "ocr")
        assert before["claim"] == 2
        lines = len(frozen.log.read_text().splitlines())
        frozen.send(signal.SIGCONT)

        async def refused() -> bool:
            return any("claim.lost" in line for line in frozen.log.read_text().splitlines()[lines:])

        await until(refused, what="the frozen worker to lose its claim")
        assert stage_row(platform, tenant, "ocr") == before, "the late writer changed something"
        await check_all(tenant)
    finally:
        other.stop()


async def test_c13_a_poison_image_gets_exactly_the_maximum_of_attempts(
    platform: Platform, tenant: Tenant, figures: Figures
) -> None:
    worker = platform.workers["ocr"]
    worker.stop()
    worker.start()
    killing: asyncio.Task[None] | None = None
    try:
        good = [await tenant.upload(photo(number)) for number in range(5)]
        for done in good:
            await tenant.ended(done.image_id or 0)
        # OCR of this image takes long enough to kill its child, as an image that crashes a decoder would.
        poison = await tenant.upload(encoded("jpeg", _dense_page(), quality=60))
        killing = asyncio.create_task(_kill_children(worker))

        async def last_try() -> float | None:
            return time.monotonic() if _poison_row(platform, poison)["attempts"] == 3 else None

        began = await until(last_try, what="the last attempt to start", timeout=60)
        document = await tenant.ended(poison.image_id or 0, statuses=("partial",))
        assert began is not None
        ocr = document["stages"]["ocr"]
        assert (ocr["status"], ocr["attempts"], ocr["error_code"]) == ("dead", 3, "child-died"), ocr
        assert {document["stages"][name]["status"] for name in ("thumbnail", "exif", "vision")} == {"done"}
        letters = platform.query("SELECT * FROM dead_letters WHERE client_id = :c", c=tenant.number)
        assert [(letter["stage"], letter["attempts"]) for letter in letters] == [("ocr", 3)]
        # From the end of the last attempt, when the stage died, to the dead letter; both are in one transaction.
        late = platform.scalar(
            "SELECT extract(epoch FROM d.created_at - s.done_at)::float8 FROM dead_letters d JOIN image_stages s "
            "ON s.image_id = d.image_id AND s.stage = d.stage WHERE d.client_id = :c",
            c=tenant.number,
        )
        figures.hold("C13 dead letter after the last attempt (s)", float(late), "<=", 5)
        await check_all(tenant, statuses=frozenset({"done", "partial"}))
    finally:
        await end_tasks(*filter(None, [killing]))
        worker.stop()


def _dense_page() -> Image.Image:
    """Return a page with 48 lines of text, whose OCR takes 5 s of computing time."""
    part = page(ENGLISH)
    whole = Image.new("L", (2 * part.width, 6 * part.height), 255)
    for number in range(12):
        whole.paste(part, (number % 2 * part.width, number // 2 * part.height))
    return whole


async def _kill_children(worker: Process) -> None:
    """Kill the worker's children that have computed for a while: an image that crashes a decoder does it sooner."""
    while True:
        for child in psutil.Process(worker.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.cpu_times().user > 2:
                    child.kill()
        await asyncio.sleep(0.1)


def _poison_row(platform: Platform, poison: Operation) -> dict[str, int]:
    rows = platform.query("SELECT attempts FROM image_stages WHERE image_id = :i AND stage = 'ocr'", i=poison.image_id)
    return dict(rows[0])


@pytest.mark.parametrize("kind", ["exif", "ocr"])
async def test_c16_an_image_deleted_while_a_stage_runs_stays_deleted(
    platform: Platform, tenant: Tenant, kind: str
) -> None:
    worker = platform.workers[kind]
    arm(worker, "stage.worked=stop*1")
    image = await uploaded(tenant, 16)
    await asyncio.to_thread(worker.wait_frozen)

    answers: list[Answer] = []

    async def deleted() -> bool:
        # A worker frozen inside a transaction holds the image's lock until the server ends that transaction.
        answers.append(await tenant.call("DELETE", f"/images/{image}"))
        return answers[-1].status in (204, 404)

    try:
        await until(deleted, what="the image to be deleted", timeout=30)
    except AssertionError as error:
        raise AssertionError(f"{error}; answers: {answers[-3:]}; locks: {platform.locks()}") from None
    finally:
        worker.send(signal.SIGCONT)
    tenant.journal.clear()
    await cleaned(tenant)
    await drained(platform)
    await cleaned(tenant)
    assert platform.scalar("SELECT count(*) FROM stage_results WHERE client_id = :c", c=tenant.number) == 0
    assert (await tenant.call("GET", f"/images/{image}")).status == 404
    await check_all(tenant)
