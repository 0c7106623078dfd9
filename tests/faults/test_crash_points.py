"""The crash points C1 to C16 of docs/reliability.md, each with its outcome; real processes that die exactly there."""

import asyncio
import contextlib
import hashlib
import signal
import time

import pytest
from PIL import Image
from tests.faults.checks import check_all, swept
from tests.faults.client import Answer, Operation, Tenant, photo
from tests.faults.figures import Figures
from tests.faults.memory import memory_group
from tests.faults.platform import ACK_WAIT, ADMIN_KEY, Platform, Process
from tests.support.images import encoded, picture
from tests.support.waiting import until

from imago.bus.connection import Bus
from imago.bus.consumer import POLL_SECONDS
from imago.bus.topology import Topology, consumer_config, ensure
from imago.domain.stages import Stage
from imago.settings import Settings


@pytest.fixture
def again(request: pytest.FixtureRequest) -> None:
    """Each crash point once in CI, 20 times at full size (see conftest)."""


pytestmark = pytest.mark.usefixtures("again")


def arm(process: Process, failpoint: str) -> None:
    """Start a process again with a failpoint in it."""
    process.stop()
    process.start(FAILPOINTS=failpoint)


def known(tenant: Tenant, data: bytes, body: dict[str, object]) -> None:
    """Write an answer into the journal."""
    done = Operation("", hashlib.sha256(data).hexdigest(), len(data))
    done.image_id, done.image_uuid = int(str(body["id"])), str(body["uuid"])
    tenant.journal.append(done)


async def test_c1_killed_mid_upload_leaves_nothing(platform: Platform, tenant: Tenant, figures: Figures) -> None:
    arm(platform.apis[0], "upload.streaming=kill")
    answer = await tenant.upload_once(photo(1), api=0)
    assert answer.status == 0
    platform.apis[0].wait_death()
    platform.apis[0].start()
    assert platform.scalar("SELECT count(*) FROM images WHERE client_id = :c", c=tenant.number) == 0
    began = time.monotonic()
    await swept(tenant)
    figures.note("C1 half an object swept after (s; the intent lives 9)", time.monotonic() - began)
    await check_all(tenant)


async def test_c2_killed_between_storing_and_commit_makes_one_image(platform: Platform, tenant: Tenant) -> None:
    arm(platform.apis[0], "upload.stored=kill")
    data, key = photo(2), "c2"
    assert (await tenant.upload_once(data, key=key, api=0)).status == 0
    platform.apis[0].wait_death()
    platform.apis[0].start()

    async def accepted() -> dict[str, object] | None:
        answer = await tenant.upload_once(data, key=key)
        assert answer.status in (201, 409), answer
        return answer.body if answer.status == 201 else None

    body = await until(accepted, what="the retry to take the dead upload's key over")
    assert body is not None
    known(tenant, data, body)
    await tenant.ended(int(str(body["id"])))
    await swept(tenant)
    await check_all(tenant)


async def test_c3_killed_before_the_answer_gives_the_same_id_again(platform: Platform, tenant: Tenant) -> None:
    arm(platform.apis[0], "upload.committed=kill")
    data, key = photo(3), "c3"
    assert (await tenant.upload_once(data, key=key, api=0)).status == 0
    platform.apis[0].wait_death()
    committed = platform.scalar("SELECT id FROM images WHERE client_id = :c", c=tenant.number)
    platform.apis[0].start()
    answer = await tenant.upload_once(data, key=key)
    assert (answer.status, answer.body["id"]) == (201, committed)
    assert answer.headers["Idempotency-Replayed"] == "true"
    known(tenant, data, answer.body)
    await tenant.ended(committed)
    await check_all(tenant)


async def test_c4_killed_before_publishing_is_published_after_the_restart(
    platform: Platform, tenant: Tenant, figures: Figures
) -> None:
    # The other process' relay would hide what the restarted one does.
    platform.apis[1].stop()
    arm(platform.apis[0], "announcer.publishing=kill")
    data = photo(4)
    await tenant.upload_once(data, api=0)
    platform.apis[0].wait_death()
    row = platform.query("SELECT id, uuid FROM images WHERE client_id = :c", c=tenant.number)[0]
    assert platform.scalar("SELECT count(*) FROM outbox WHERE client_id = :c", c=tenant.number) > 0
    platform.apis[0].start()
    began = time.monotonic()

    async def published() -> bool:
        return platform.scalar("SELECT count(*) FROM outbox WHERE client_id = :c", c=tenant.number) == 0

    await until(published, what="the relay to publish what the crash left")
    figures.hold("C4 published after the restart (s)", time.monotonic() - began, "<=", 5)
    platform.start()
    known(tenant, data, dict(row))
    await tenant.ended(row["id"])
    await check_all(tenant)


async def test_c5_killed_after_publishing_makes_a_harmless_duplicate(platform: Platform, tenant: Tenant) -> None:
    platform.apis[1].stop()
    arm(platform.apis[0], "announcer.published=kill")
    data = photo(5)
    await tenant.upload_once(data, api=0)
    platform.apis[0].wait_death()
    platform.apis[0].start()
    row = platform.query("SELECT id, uuid FROM images WHERE client_id = :c", c=tenant.number)[0]
    known(tenant, data, dict(row))
    await tenant.ended(row["id"])

    async def settled() -> bool:
        return platform.scalar("SELECT count(*) FROM outbox WHERE client_id = :c", c=tenant.number) == 0

    await until(settled, what="the outbox to be settled")
    platform.start()
    assert _claims(platform, tenant) == [1, 1, 1, 1]
    await check_all(tenant)


def _claims(platform: Platform, tenant: Tenant) -> list[int]:
    rows = platform.query("SELECT claim FROM image_stages WHERE client_id = :c ORDER BY stage", c=tenant.number)
    return [row["claim"] for row in rows]


def _stage(platform: Platform, tenant: Tenant, stage: str) -> dict[str, object]:
    rows = platform.query("SELECT * FROM image_stages WHERE client_id = :c AND stage = :s", c=tenant.number, s=stage)
    return dict(rows[0])


async def _uploaded(tenant: Tenant, number: int) -> int:
    done = await tenant.upload(photo(number))
    assert done.image_id is not None
    return done.image_id


async def test_c6_a_worker_killed_mid_stage_costs_one_redelivery(
    platform: Platform, tenant: Tenant, figures: Figures
) -> None:
    worker, other = platform.workers["ocr"], platform.extra_worker("ocr")
    arm(worker, "stage.claimed=kill")
    other.start()
    try:
        await _pulling(platform, "ocr", workers=2)
        # The other one is there, and can't be the one that gets the message first.
        other.send(signal.SIGSTOP)
        await asyncio.sleep(POLL_SECONDS + 0.5)
        image = await _uploaded(tenant, 6)
        await asyncio.to_thread(worker.wait_death)
        began = time.monotonic()
        other.send(signal.SIGCONT)

        async def claimed_again() -> bool:
            return _stage(platform, tenant, "ocr")["claim"] == 2

        await until(claimed_again, what="the second claim")
        figures.hold("C6 redelivered after the kill (s; ack_wait + 5)", time.monotonic() - began, "<=", ACK_WAIT + 5)
        await tenant.ended(image)
        assert _stage(platform, tenant, "ocr")["attempts"] == 2
        await check_all(tenant)
    finally:
        other.stop()


async def _pulling(platform: Platform, stage: str, *, workers: int) -> None:
    """Wait until so many workers ask for a stage's messages of the lane `standard`."""
    bus = await _bus(platform)
    try:

        async def asking() -> bool:
            return (await bus.js.consumer_info("IMAGO_WORK_STANDARD", stage)).num_waiting >= workers

        await until(asking, what=f"{workers} workers to pull", timeout=40)
    finally:
        await bus.close()


async def test_c6_a_worker_killed_by_the_kernel_for_its_memory_costs_one_redelivery(
    platform: Platform, tenant: Tenant
) -> None:
    worker = platform.workers["ocr"]
    arm(worker, "stage.claimed=stop*1")
    image = await _uploaded(tenant, 6)
    await asyncio.to_thread(worker.wait_frozen)
    with memory_group() as group:
        group.add(worker.pid)
        # The worker is in the middle of its stage, and what else is in its group takes all that the group may have.
        group.exhaust()
        worker.wait_death()
    worker.start()
    await tenant.ended(image)
    row = _stage(platform, tenant, "ocr")
    assert (row["claim"], row["attempts"]) == (2, 2)
    await check_all(tenant)


async def test_c6_a_file_that_kills_its_worker_each_time_is_put_away_and_the_others_go_on(
    platform: Platform, tenant: Tenant
) -> None:
    worker = platform.workers["ocr"]
    arm(worker, "stage.claimed=kill")
    poison = await _uploaded(tenant, 6)
    for _ in range(3):
        await asyncio.to_thread(worker.wait_death)
        worker.start(FAILPOINTS="stage.claimed=kill")

    async def put_away() -> bool:
        return _stage(platform, tenant, "ocr")["status"] == "dead"

    # It would die of a fourth start, as of the three before.
    await until(put_away, what="the dead letter", timeout=30)
    assert worker.running
    row = _stage(platform, tenant, "ocr")
    assert (row["claim"], row["attempts"], row["error_code"]) == (3, 3, "worker-lost")
    document = await tenant.ended(poison, statuses=("partial",))
    assert {document["stages"][name]["status"] for name in ("thumbnail", "exif", "vision")} == {"done"}
    arm(worker, "")
    good = await _uploaded(tenant, 7)
    await tenant.ended(good)
    await check_all(tenant, statuses=frozenset({"done", "partial"}))


async def test_c7_a_worker_killed_after_its_commit_does_nothing_twice(platform: Platform, tenant: Tenant) -> None:
    worker = platform.workers["vision"]
    arm(worker, "stage.committed=kill")
    image = await _uploaded(tenant, 7)
    worker.wait_death()
    worker.start()
    await tenant.ended(image)
    await _message_gone(platform, tenant, "vision")
    assert _stage(platform, tenant, "vision")["claim"] == 1, "the provider was called a second time"
    await check_all(tenant)


async def test_c8_a_lost_ack_does_nothing_twice(platform: Platform, tenant: Tenant) -> None:
    worker = platform.workers["vision"]
    arm(worker, "stage.acking=skip*1")
    image = await _uploaded(tenant, 8)
    await tenant.ended(image)
    await _message_gone(platform, tenant, "vision")
    assert _stage(platform, tenant, "vision")["claim"] == 1
    await check_all(tenant)


async def _bus(platform: Platform) -> Bus:
    bus = Bus(Settings(nats_url=(platform.nats.url,)), name="api")
    await bus.start()
    await bus.wait_connected(20)
    return bus


async def _message_gone(platform: Platform, tenant: Tenant, stage: str) -> None:
    row = _stage(platform, tenant, stage)
    bus = await _bus(platform)
    try:

        async def gone() -> bool:
            info = await bus.js.consumer_info(str(row["stream"]), stage)
            return info.num_ack_pending == 0 and info.num_pending == 0

        await until(gone, what="the redelivered message to be acknowledged", timeout=ACK_WAIT + 10)
    finally:
        await bus.close()


async def test_c9_a_frozen_worker_is_refused_when_it_comes_back(platform: Platform, tenant: Tenant) -> None:
    frozen, other = platform.workers["ocr"], platform.extra_worker("ocr")
    arm(frozen, "stage.worked=stop*1")
    image = await _uploaded(tenant, 9)
    await asyncio.to_thread(frozen.wait_frozen)
    other.start()
    try:
        await tenant.ended(image)
        before = _stage(platform, tenant, "ocr")
        assert before["claim"] == 2
        lines = len(frozen.log.read_text().splitlines())
        frozen.send(signal.SIGCONT)

        async def refused() -> bool:
            return any("claim lost" in line for line in frozen.log.read_text().splitlines()[lines:])

        await until(refused, what="the frozen worker to find that its claim is lost")
        assert _stage(platform, tenant, "ocr") == before, "the late writer changed something"
        await check_all(tenant)
    finally:
        other.stop()


async def test_c10_nats_killed_and_restarted_loses_nothing(
    platform: Platform, tenant: Tenant, figures: Figures
) -> None:
    for number in range(10):
        await tenant.upload(photo(number))
    platform.nats.kill()
    during = [await tenant.upload(photo(number)) for number in range(10, 15)]
    assert all(done.attempts == [201] for done in during), "an upload was refused while NATS was away"
    platform.nats.start()
    began = time.monotonic()
    done_before = tenant.counts().get("done", 0)

    async def going_on() -> bool:
        return tenant.counts().get("done", 0) > done_before

    await until(going_on, what="the workers to go on")
    figures.hold("C10 workers going on after NATS came back (s)", time.monotonic() - began, "<=", 10)
    await tenant.all_ended(timeout=60)
    await check_all(tenant)


async def test_c11_a_wiped_nats_is_filled_again(platform: Platform, tenant: Tenant, figures: Figures) -> None:
    for worker in platform.workers.values():
        worker.stop()
    for number in range(20):
        await tenant.upload(photo(number))
    platform.wipe_nats()
    began = time.monotonic()
    for worker in platform.workers.values():
        worker.start()
    await tenant.all_ended(timeout=120)
    figures.hold("C11 everything done after a wiped NATS (s)", time.monotonic() - began, "<=", 120)
    await check_all(tenant)


async def test_c12_postgres_killed_answers_503_and_burns_no_try(
    platform: Platform, tenant: Tenant, figures: Figures
) -> None:
    stop = asyncio.Event()
    refusals: list[int] = []

    async def load() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            data = photo(number)
            answer = await tenant.upload_once(data)
            if answer.status == 201:
                known(tenant, data, answer.body)
            else:
                refusals.append(answer.status)
                assert answer.status != 503 or int(answer.headers["Retry-After"]) > 0
            await asyncio.sleep(0.05)

    loading = [asyncio.create_task(load()) for _ in range(3)]
    await asyncio.sleep(1.5)
    await asyncio.to_thread(platform.postgres.kill)
    await asyncio.sleep(3)
    assert 503 in refusals, "nothing was refused while the database was away"
    assert set(refusals) == {503}, f"other answers than 503: {set(refusals)}"
    await asyncio.to_thread(platform.postgres.start)
    began = time.monotonic()

    async def accepted() -> bool:
        return (await tenant.call("GET", "/auth/me")).status == 200

    await until(accepted, what="the API to be back")
    figures.hold("C12 answering after PostgreSQL came back (s)", time.monotonic() - began, "<=", 10)
    stop.set()
    await asyncio.gather(*loading)
    # A commit whose answer was lost in the crash left an image that nobody was told of; that is an unknown, not a loss.
    told = {done.image_id for done in tenant.journal}
    for row in platform.query("SELECT id, uuid, sha256, size_bytes FROM images WHERE client_id = :c", c=tenant.number):
        if row["id"] not in told:
            done = Operation("", row["sha256"], row["size_bytes"], row["id"], str(row["uuid"]))
            tenant.journal.append(done)
    await tenant.all_ended(timeout=60)
    # What the refused uploads had stored goes with their intents.
    await swept(tenant)
    await check_all(tenant)
    worst = platform.scalar("SELECT max(attempts) FROM image_stages WHERE client_id = :c", c=tenant.number)
    figures.hold("C12 tries of the most tried stage", worst, "<=", 1)


async def test_c13_a_poison_image_takes_its_tries_and_no_more(
    platform: Platform, tenant: Tenant, figures: Figures
) -> None:
    worker = platform.workers["ocr"]
    worker.stop()
    # OCR of this one burns more than the seconds that a child may use, and the kernel kills the child each time.
    worker.start(CHILD_CPU_SECONDS="1")
    try:
        noise = Image.effect_noise((3000, 3000), 90)
        poison = await tenant.upload(encoded("jpeg", noise, quality=60))
        good = [await tenant.upload(photo(number)) for number in range(5)]
        for done in good:
            await tenant.ended(done.image_id or 0)

        async def last_try() -> float | None:
            return time.monotonic() if _poison_row(platform, poison)["attempts"] == 3 else None

        began = await until(last_try, what="the last try to begin", timeout=60)
        document = await tenant.ended(poison.image_id or 0, statuses=("partial",))
        assert began is not None
        ocr = document["stages"]["ocr"]
        assert (ocr["status"], ocr["attempts"], ocr["error_code"]) == ("dead", 3, "cpu-limit"), ocr
        assert {document["stages"][name]["status"] for name in ("thumbnail", "exif", "vision")} == {"done"}
        letters = platform.query("SELECT * FROM dead_letters WHERE client_id = :c", c=tenant.number)
        assert [(letter["stage"], letter["attempts"]) for letter in letters] == [("ocr", 3)]
        # From the end of the last try, which is when its stage died, to the letter: they are one transaction.
        late = platform.scalar(
            "SELECT extract(epoch FROM d.created_at - s.done_at)::float8 FROM dead_letters d JOIN image_stages s "
            "ON s.image_id = d.image_id AND s.stage = d.stage WHERE d.client_id = :c",
            c=tenant.number,
        )
        figures.hold("C13 dead letter after the last try (s)", float(late), "<=", 5)
        await check_all(tenant, statuses=frozenset({"done", "partial"}))
    finally:
        worker.stop()


def _poison_row(platform: Platform, poison: Operation) -> dict[str, int]:
    rows = platform.query("SELECT attempts FROM image_stages WHERE image_id = :i AND stage = 'ocr'", i=poison.image_id)
    return dict(rows[0])


async def test_c14_advisories_that_come_while_nobody_listens_are_read_later(platform: Platform, tenant: Tenant) -> None:
    platform.workers["exif"].stop()
    images = [await _uploaded(tenant, number) for number in range(5)]

    async def published() -> bool:
        return platform.scalar("SELECT count(*) FROM outbox WHERE client_id = :c", c=tenant.number) == 0

    await until(published, what="the work to be in the stream")
    for api in platform.apis:
        api.stop()
    bus = await _bus(platform)
    try:
        # Used up by a consumer that never acknowledges, until the server gives every message up.
        short = consumer_config("standard", Stage.EXIF, Topology(ack_wait=0.3))
        short.max_deliver = 2
        await bus.js.add_consumer("IMAGO_WORK_STANDARD", short)
        taker = await bus.js.pull_subscribe_bind(consumer="exif", stream="IMAGO_WORK_STANDARD")

        async def given_up() -> bool:
            with contextlib.suppress(TimeoutError):
                await taker.fetch(20, timeout=0.5)
            info = await bus.js.stream_info("IMAGO_ADVISORIES")
            return info.state.messages >= len(images)

        await until(given_up, what="the server to give every message up")
        await taker.unsubscribe()
        await ensure(bus.js, topology=Topology(ack_wait=ACK_WAIT))
    finally:
        await bus.close()
    # Only the advisories can tell: the reconciler doesn't look at all in this time.
    for api in platform.apis:
        api.start(RECONCILE_INTERVAL="3600")
    try:
        platform.workers["exif"].start()
        for image in images:
            await tenant.ended(image)
        await check_all(tenant)
    finally:
        for api in platform.apis:
            api.stop()


async def test_c15_a_dead_letter_replayed_twice_at_once_runs_once(platform: Platform, tenant: Tenant) -> None:
    data = encoded("jpeg", picture(900, 900))[:6000]
    done = await tenant.upload(data)
    document = await tenant.ended(done.image_id or 0, statuses=("partial", "failed"))
    dead = [name for name, stage in document["stages"].items() if stage["status"] == "dead"]
    assert dead, document
    listed = await tenant.call("GET", f"/admin/dead-letters?client={tenant.uuid}", headers={"X-API-Key": ADMIN_KEY})
    letters = [letter["id"] for letter in listed.body["items"]]
    answers = await asyncio.gather(
        *(
            tenant.call(
                "POST",
                "/admin/dead-letters/replay",
                api=index % 2,
                json={"ids": letters},
                headers={"X-API-Key": ADMIN_KEY},
            )
            for index in range(8)
        )
    )
    assert {answer.status for answer in answers} == {202}
    assert sum(answer.body["replayed"] for answer in answers) == len(dead)
    again = await tenant.ended(done.image_id or 0, statuses=("partial", "failed"))
    assert {again["stages"][name]["run"] for name in dead} == {2}
    await check_all(tenant, statuses=frozenset({"partial", "failed"}))


@pytest.mark.parametrize("kind", ["exif", "ocr"])
async def test_c16_an_image_deleted_while_in_work_stays_deleted(platform: Platform, tenant: Tenant, kind: str) -> None:
    worker = platform.workers[kind]
    arm(worker, "stage.worked=stop*1")
    image = await _uploaded(tenant, 16)
    await asyncio.to_thread(worker.wait_frozen)

    answers: list[Answer] = []

    async def deleted() -> bool:
        # A worker that froze inside a transaction holds the image's lock until the server ends that transaction.
        answers.append(await tenant.call("DELETE", f"/images/{image}"))
        return answers[-1].status in (204, 404)

    try:
        await until(deleted, what="the image to be deleted", timeout=30)
    except AssertionError as error:
        raise AssertionError(f"{error}; answers: {answers[-3:]}; locks: {platform.locks()}") from None
    finally:
        worker.send(signal.SIGCONT)
    tenant.journal.clear()
    await swept(tenant)
    await _drained(platform)
    await swept(tenant)
    assert platform.scalar("SELECT count(*) FROM stage_results WHERE client_id = :c", c=tenant.number) == 0
    assert (await tenant.call("GET", f"/images/{image}")).status == 404
    await check_all(tenant)


async def _drained(platform: Platform) -> None:
    bus = await _bus(platform)
    try:

        async def empty() -> bool:
            infos = [await bus.js.consumer_info("IMAGO_WORK_STANDARD", stage) for stage in Stage]
            return all(info.num_ack_pending == 0 and info.num_pending == 0 for info in infos)

        await until(empty, what="the work streams to be empty", timeout=30)
    finally:
        await bus.close()
