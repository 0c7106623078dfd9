"""Steps shared by the tests of crash points."""

import hashlib

from devtools.waiting import until
from imago.core.jobs.stages import STAGES
from imago.nats.connection import NatsConnection
from imago.settings import Settings
from tests.faults.client import Operation, Tenant, photo
from tests.faults.platform import ACK_WAIT, Platform, Process


def arm(process: Process, failpoint: str) -> None:
    """Restart a process with a failpoint."""
    process.stop()
    process.start(FAILPOINTS=failpoint)


def known(tenant: Tenant, data: bytes, body: dict[str, object]) -> None:
    """Record a response in the journal."""
    done = Operation("", hashlib.sha256(data).hexdigest(), len(data))
    done.image_id, done.image_uuid = int(str(body["id"])), str(body["uuid"])
    tenant.journal.append(done)


def claims(platform: Platform, tenant: Tenant) -> list[int]:
    """Return how often each stage of the client's only image was claimed."""
    rows = platform.query("SELECT claim FROM image_stages WHERE client_id = :c ORDER BY stage", c=tenant.number)
    return [row["claim"] for row in rows]


def stage_row(platform: Platform, tenant: Tenant, stage: str) -> dict[str, object]:
    """Return the database row of a stage of the client's only image."""
    rows = platform.query("SELECT * FROM image_stages WHERE client_id = :c AND stage = :s", c=tenant.number, s=stage)
    return dict(rows[0])


async def uploaded(tenant: Tenant, number: int) -> int:
    """Upload a photo and return the image's id."""
    done = await tenant.upload(photo(number))
    assert done.image_id is not None
    return done.image_id


async def connected(platform: Platform) -> NatsConnection:
    """Connect to NATS, bypassing the proxy."""
    nats = NatsConnection(Settings(nats_url=(platform.nats.url,)), name="api")
    await nats.start()
    await nats.wait_connected(20)
    return nats


async def message_gone(platform: Platform, tenant: Tenant, stage: str) -> None:
    """Wait until a stage's consumer has no pending and no unacknowledged message."""
    row = stage_row(platform, tenant, stage)
    nats = await connected(platform)
    try:

        async def gone() -> bool:
            info = await nats.js.consumer_info(str(row["stream"]), stage)
            return info.num_ack_pending == 0 and info.num_pending == 0

        await until(gone, what="the redelivered message to be acknowledged", timeout=ACK_WAIT + 10)
    finally:
        await nats.close()


async def pulling(platform: Platform, stage: str, *, workers: int) -> None:
    """Wait until that many workers pull messages of a stage from the lane `standard`."""
    nats = await connected(platform)
    try:

        async def asking() -> bool:
            return (await nats.js.consumer_info("IMAGO_WORK_STANDARD", stage)).num_waiting >= workers

        await until(asking, what=f"{workers} workers to pull", timeout=40)
    finally:
        await nats.close()


async def drained(platform: Platform) -> None:
    """Wait until that many workers pull messages of every stage."""
    nats = await connected(platform)
    try:

        async def empty() -> bool:
            infos = [await nats.js.consumer_info("IMAGO_WORK_STANDARD", stage) for stage in STAGES]
            return all(info.num_ack_pending == 0 and info.num_pending == 0 for info in infos)

        await until(empty, what="the work streams to be empty", timeout=30)
    finally:
        await nats.close()
