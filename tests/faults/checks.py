"""Invariants that hold after every fault, checked from outside: the journal against HTTP, database and storage."""

import asyncio
import hashlib
from collections import Counter

from devtools.waiting import until
from tests.faults.client import Tenant


async def check_all(tenant: Tenant, *, statuses: frozenset[str] = frozenset({"done"})) -> None:
    """Check every promise about a client's accepted images."""
    check_images(tenant, statuses)
    check_results(tenant)
    check_usage(tenant)
    await check_objects(tenant)
    await check_api(tenant)


def check_images(tenant: Tenant, statuses: frozenset[str]) -> None:
    """Check that each acknowledged upload is one image with the bytes that were sent, and no other image exists."""
    rows = tenant.platform.query(
        "SELECT id, sha256, status FROM images WHERE client_id = :client", client=tenant.number
    )
    there = {row["id"]: row for row in rows}
    lost = [done.image_id for done in tenant.journal if done.image_id is not None and done.image_id not in there]
    assert not lost, f"lost: {lost}"
    wrong = [done for done in tenant.journal if done.image_id and there[done.image_id]["sha256"] != done.sha256]
    assert not wrong, f"stored with other bytes: {wrong}"
    acknowledged = {done.image_id for done in tenant.journal}
    assert len(acknowledged) == len(tenant.journal), "two uploads got the same image"
    strays = set(there) - acknowledged
    assert not strays, f"images that no upload was acknowledged for: {strays}"
    assert {row["status"] for row in rows} <= statuses, Counter(row["status"] for row in rows)


def check_results(tenant: Tenant) -> None:
    """Check that each done stage has exactly one result, and that it is of the stage's current run."""
    rows = tenant.platform.query(
        "SELECT s.image_id, s.stage, s.status, s.run, count(r.run) AS results, max(r.run) AS result_run "
        "FROM image_stages s LEFT JOIN stage_results r ON r.image_id = s.image_id AND r.stage = s.stage "
        "WHERE s.client_id = :client GROUP BY s.image_id, s.stage, s.status, s.run",
        client=tenant.number,
    )
    wrong = [
        row for row in rows if row["status"] == "done" and (row["results"] != 1 or row["result_run"] != row["run"])
    ]
    assert not wrong, f"stages without exactly one result: {wrong[:5]}"


def check_usage(tenant: Tenant) -> None:
    """Check that the used quota is the sum over the existing images."""
    used = tenant.platform.query(
        "SELECT storage_bytes, images FROM client_usage WHERE client_id = :client", client=tenant.number
    )[0]
    lives = tenant.platform.query(
        "SELECT coalesce(sum(size_bytes + thumbnail_bytes), 0)::bigint AS storage_bytes, count(*) AS images "
        "FROM images WHERE client_id = :client",
        client=tenant.number,
    )[0]
    assert dict(used) == dict(lives)


async def check_objects(tenant: Tenant) -> None:
    """Check that local storage has every original as it was sent, every thumbnail, and nothing else."""
    platform = tenant.platform
    if platform.s3 is not None:
        return
    expected = {}
    for row in platform.query(
        "SELECT object_key, thumbnail_key, sha256 FROM images WHERE client_id = :client", client=tenant.number
    ):
        expected[row["object_key"]] = row["sha256"]
        if row["thumbnail_key"]:
            expected[row["thumbnail_key"]] = None
    present = {name for name in platform.files() if name.startswith(tenant.uuid)}
    assert not set(expected) - present, "objects are missing"
    assert not present - set(expected), f"objects without an image: {sorted(present - set(expected))[:5]}"
    for key, sha256 in expected.items():
        if sha256 is not None:
            data = await asyncio.to_thread((platform.objects / key).read_bytes)
            assert hashlib.sha256(data).hexdigest() == sha256, key


async def check_api(tenant: Tenant) -> None:
    """Check that the API returns a sample of the acknowledged images, and the same count as the database."""
    for done in tenant.journal[:: max(1, len(tenant.journal) // 20)]:
        answer = await tenant.call("GET", f"/images/{done.image_id}")
        assert answer.status == 200, answer
        assert (answer.body["uuid"], answer.body["sha256"]) == (done.image_uuid, done.sha256)
    me = (await tenant.call("GET", "/auth/me")).body
    assert me["usage"]["images"] == len(tenant.journal)


async def cleaned(tenant: Tenant, *, timeout: float = 30) -> None:
    """Wait until local storage holds only objects of the client's images, and no intent of the client is left."""
    platform = tenant.platform

    async def clean() -> bool:
        intents = platform.scalar("SELECT count(*) FROM upload_intents WHERE client_id = :c", c=tenant.number)
        # The unfinished thumbnail of a killed worker stays until its image is deleted (docs/reliability.md).
        unfinished = [
            name
            for name in platform.files()
            if name.startswith(".incoming/") and tenant.uuid in name and "+thumbnail+" not in name
        ]
        keys = {
            key
            for row in platform.query(
                "SELECT object_key, thumbnail_key FROM images WHERE client_id = :c", c=tenant.number
            )
            for key in row.values()
        }
        present = {name for name in platform.files() if name.startswith(tenant.uuid)}
        return intents == 0 and not unfinished and present <= keys

    await until(clean, what="the leftovers of the dead upload to be deleted", timeout=timeout, interval=0.2)
