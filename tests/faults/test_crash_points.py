"""Crash points C1 to C5, C10 to C12, C14 and C15 of docs/reliability.md, at which API, NATS or PostgreSQL dies."""

import asyncio
import contextlib
import time

import pytest

from devtools.waiting import until
from imago.core.jobs.stages import Stage
from imago.nats.streams import StreamOptions, consumer_config, ensure_streams
from tests.faults.checks import check_all, cleaned
from tests.faults.client import Answer, Operation, Tenant, photo
from tests.faults.figures import Figures
from tests.faults.platform import ACK_WAIT, ADMIN_KEY, Platform
from tests.faults.steps import arm, claims, connected, known, uploaded
from tests.support.images import encoded, picture

pytestmark = pytest.mark.usefixtures("again")


async def test_c1_killed_mid_upload_leaves_nothing(platform: Platform, tenant: Tenant, figures: Figures) -> None:
    arm(platform.apis[0], "upload.streaming=kill")
    answer = await tenant.upload_once(photo(1), api=0)
    assert answer.status == 0
    platform.apis[0].wait_death()
    platform.apis[0].start()
    assert platform.scalar("SELECT count(*) FROM images WHERE client_id = :c", c=tenant.number) == 0
    began = time.monotonic()
    await cleaned(tenant)
    figures.note("C1 partial object deleted after (s; the intent expires after 9)", time.monotonic() - began)
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

    body = await until(accepted, what="the retry to take over the dead upload's key")
    assert body is not None
    known(tenant, data, body)
    await tenant.ended(int(str(body["id"])))
    await cleaned(tenant)
    await check_all(tenant)


async def test_c3_killed_before_the_response_returns_the_same_id_to_the_retry(
    platform: Platform, tenant: Tenant
) -> None:
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
    # The other process's relay would publish instead of the restarted one.
    platform.apis[1].stop()
    arm(platform.apis[0], "outbox.publishing=kill")
    data = photo(4)
    await tenant.upload_once(data, api=0)
    platform.apis[0].wait_death()
    row = platform.query("SELECT id, uuid FROM images WHERE client_id = :c", c=tenant.number)[0]
    assert platform.scalar("SELECT count(*) FROM outbox WHERE client_id = :c", c=tenant.number) > 0
    platform.apis[0].start()
    began = time.monotonic()

    async def published() -> bool:
        return platform.scalar("SELECT count(*) FROM outbox WHERE client_id = :c", c=tenant.number) == 0

    await until(published, what="the relay to publish the row that the crash left")
    figures.hold("C4 published after the restart (s)", time.monotonic() - began, "<=", 5)
    platform.start()
    known(tenant, data, dict(row))
    await tenant.ended(row["id"])
    await check_all(tenant)


async def test_c5_killed_after_publishing_makes_a_harmless_duplicate(platform: Platform, tenant: Tenant) -> None:
    platform.apis[1].stop()
    arm(platform.apis[0], "outbox.published=kill")
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
    assert claims(platform, tenant) == [1, 1, 1, 1]
    await check_all(tenant)


async def test_c10_nats_killed_and_restarted_loses_nothing(
    platform: Platform, tenant: Tenant, figures: Figures
) -> None:
    for number in range(10):
        await tenant.upload(photo(number))
    platform.nats.kill()
    during = [await tenant.upload(photo(number)) for number in range(10, 15)]
    assert all(done.attempts == [201] for done in during), "an upload was refused while NATS was unavailable"
    platform.nats.start()
    began = time.monotonic()
    done_before = tenant.counts().get("done", 0)

    async def working_again() -> bool:
        return tenant.counts().get("done", 0) > done_before

    await until(working_again, what="the workers to resume")
    figures.hold("C10 workers resumed after NATS came back (s)", time.monotonic() - began, "<=", 10)
    await tenant.all_ended(timeout=60)
    await check_all(tenant)


async def test_c11_work_is_republished_after_the_store_of_nats_is_wiped(
    platform: Platform, tenant: Tenant, figures: Figures
) -> None:
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


async def test_c12_while_postgres_is_down_requests_get_503_and_no_attempt_is_lost(
    platform: Platform, tenant: Tenant, figures: Figures
) -> None:
    stop = asyncio.Event()
    refusals: list[Answer] = []

    async def load() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            data = photo(number)
            answer = await tenant.upload_once(data)
            if answer.status == 201:
                known(tenant, data, answer.body)
            else:
                refusals.append(answer)
                assert answer.status != 503 or int(answer.headers["Retry-After"]) > 0
            await asyncio.sleep(0.05)

    loading = [asyncio.create_task(load()) for _ in range(3)]
    await asyncio.sleep(1.5)
    await asyncio.to_thread(platform.postgres.kill)
    await asyncio.sleep(3)
    await asyncio.to_thread(platform.postgres.start)
    began = time.monotonic()

    async def accepted() -> bool:
        return (await tenant.call("GET", "/auth/me")).status == 200

    await until(accepted, what="the API to accept uploads again")
    figures.hold("C12 accepting again after PostgreSQL came back (s)", time.monotonic() - began, "<=", 10)
    stop.set()
    await asyncio.gather(*loading)
    assert refusals, "no request was refused while the database was unavailable"
    others = [answer for answer in refusals if answer.status != 503]
    assert not others, f"statuses other than 503, {len(others)} of {len(refusals)}: {others[:3]}"
    # A commit whose response was lost in the crash left an image unknown to its client: unknown is not lost.
    acknowledged = {done.image_id for done in tenant.journal}
    for row in platform.query("SELECT id, uuid, sha256, size_bytes FROM images WHERE client_id = :c", c=tenant.number):
        if row["id"] not in acknowledged:
            done = Operation("", row["sha256"], row["size_bytes"], row["id"], str(row["uuid"]))
            tenant.journal.append(done)
    await tenant.all_ended(timeout=60)
    # Objects of refused uploads are deleted with their intents.
    await cleaned(tenant)
    await check_all(tenant)
    worst = platform.scalar("SELECT max(attempts) FROM image_stages WHERE client_id = :c", c=tenant.number)
    figures.hold("C12 attempts of the most attempted stage", worst, "<=", 1)


async def test_c14_advisories_published_while_no_reader_runs_are_read_later(platform: Platform, tenant: Tenant) -> None:
    platform.workers["exif"].stop()
    images = [await uploaded(tenant, number) for number in range(5)]

    async def published() -> bool:
        return platform.scalar("SELECT count(*) FROM outbox WHERE client_id = :c", c=tenant.number) == 0

    await until(published, what="the work to be in the stream")
    for api in platform.apis:
        api.stop()
    nats = await connected(platform)
    try:
        # A consumer that never acknowledges uses up all deliveries of every message.
        short = consumer_config("standard", Stage.EXIF, StreamOptions(ack_wait=0.3))
        short.max_deliver = 2
        await nats.js.add_consumer("IMAGO_WORK_STANDARD", short)
        taker = await nats.js.pull_subscribe_bind(consumer="exif", stream="IMAGO_WORK_STANDARD")

        async def given_up() -> bool:
            with contextlib.suppress(TimeoutError):
                await taker.fetch(20, timeout=0.5)
            info = await nats.js.stream_info("IMAGO_ADVISORIES")
            return info.state.messages >= len(images)

        await until(given_up, what="the server to give up every message")
        await taker.unsubscribe()
        await ensure_streams(nats.js, options=StreamOptions(ack_wait=ACK_WAIT))
    finally:
        await nats.close()
    # Only the advisories can reveal it: the reconciler does not run in this time.
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


async def test_c15_a_dead_letter_replayed_twice_concurrently_runs_once(platform: Platform, tenant: Tenant) -> None:
    data = encoded("png", picture(900, 900))[:60]
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
