"""What must hold whatever was broken, seen from outside: the journal against HTTP, the database and storage."""

import asyncio
import hashlib
from collections import Counter

from devtools.waiting import until
from tests.faults.client import Tenant


async def check_all(tenant: Tenant, *, statuses: frozenset[str] = frozenset({"done"})) -> None:
    """Hold everything that is promised of a client's accepted images against what there is."""
    check_images(tenant, statuses)
    check_results(tenant)
    check_usage(tenant)
    await check_objects(tenant)
    await check_api(tenant)


def check_images(tenant: Tenant, statuses: frozenset[str]) -> None:
    """Every acknowledged upload is one image, with the bytes that were sent, and there is no other image."""
    rows = tenant.platform.query(
        "SELECT id, sha256, status FROM images WHERE client_id = :client", client=tenant.number
    )
    there = {row["id"]: row for row in rows}
    lost = [done.image_id for done in tenant.journal if done.image_id is not None and done.image_id not in there]
    assert not lost, f"lost: {lost}"
    wrong = [done for done in tenant.journal if done.image_id and there[done.image_id]["sha256"] != done.sha256]
    assert not wrong, f"stored with other bytes: {wrong}"
    acknowledged = {done.image_id for done in tenant.journal}
    assert len(acknowledged) == len(tenant.journal), "one image was answered to two uploads"
    strays = set(there) - acknowledged
    assert not strays, f"images that no upload was told of: {strays}"
    assert {row["status"] for row in rows} <= statuses, Counter(row["status"] for row in rows)


def check_results(tenant: Tenant) -> None:
    """Every done stage has one result, of its present run, and no stage that isn't done has any of that run."""
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
    """The quota that is used is the sum of what lives."""
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
    """Every original is in storage as it was sent, every thumbnail is there, and nothing else is (local storage)."""
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
    assert not present - set(expected), f"objects that no image has: {sorted(present - set(expected))[:5]}"
    for key, sha256 in expected.items():
        if sha256 is not None:
            data = await asyncio.to_thread((platform.objects / key).read_bytes)
            assert hashlib.sha256(data).hexdigest() == sha256, key


async def check_api(tenant: Tenant) -> None:
    """The API shows what was acknowledged (a sample) and counts it as the database does."""
    for done in tenant.journal[:: max(1, len(tenant.journal) // 20)]:
        answer = await tenant.call("GET", f"/images/{done.image_id}")
        assert answer.status == 200, answer
        assert (answer.body["uuid"], answer.body["sha256"]) == (done.image_uuid, done.sha256)
    me = (await tenant.call("GET", "/auth/me")).body
    assert me["usage"]["images"] == len(tenant.journal)


async def swept(tenant: Tenant, *, timeout: float = 30) -> None:
    """Wait until no intent and no object of the client's is left but what its images have (local storage)."""
    platform = tenant.platform

    async def clean() -> bool:
        intents = platform.scalar("SELECT count(*) FROM upload_intents WHERE client_id = :c", c=tenant.number)
        # What a killed worker had written of a thumbnail stays until its image goes (docs/reliability.md).
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

    await until(clean, what="what the dead upload left to be swept", timeout=timeout, interval=0.2)
