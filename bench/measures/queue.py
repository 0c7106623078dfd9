"""The queue: latency from publishing to the handler, and the cost of no-op jobs."""

import asyncio
import json
import subprocess
import sys
import time
from uuid import uuid4

import asyncpg

from bench.bench import Bench
from bench.environment import ROOT
from bench.load import UnexpectedAnswer
from bench.processes import Group, Meter
from bench.seeding import analyse
from bench.statistics import Sample, percentile, ratio
from bench.systems import Imago, Peer, start, stop
from devtools.waiting import until
from imago.core.jobs.stages import Stage
from imago.core.lanes.model import STANDARD
from imago.core.lanes.worker_lanes import WorkerLanes
from imago.core.outbox.model import OutboxKind, OutboxRow
from imago.core.outbox.subjects import work_subject
from imago.core.outbox.work_message import WorkMessage
from imago.nats.connection import NatsConnection
from imago.nats.consumer import Delivery, WorkConsumer
from imago.nats.publisher import Publisher
from imago.settings import Settings

_DEFAULT_POLL, _TUNED_POLL = 0.5, 0.01

# Numbers of concurrent jobs (the default of both, and many), and of measured jobs: so many that the last ones, which
# leave slots empty, hardly count.
_AT_ONCE = {10: 400, 80: 1600}


def measure(bench: Bench) -> None:
    """Measure the queue."""
    bench.report.section("Queue")
    _latency(bench)
    _noop(bench)


def _latency(bench: Bench) -> None:
    count = bench.size(40, 400)
    waits: dict[str, list[float]] = {"imago": [], "tuned": [], "default": []}
    for _ in range(bench.rounds):
        waits["imago"].append(percentile(bench.run(_ours(bench.imago, count)), 0.5))
        waits["tuned"].append(percentile(_theirs(bench.peer, count, _TUNED_POLL), 0.5))
    waits["default"].append(percentile(_theirs(bench.peer, min(count, 30), _DEFAULT_POLL), 0.5))
    bench.report.add("publish to handler, p50 ms: imago", Sample(tuple(waits["imago"])), relation="<=", target=5)
    bench.report.add(f"publish to handler, p50 ms: ARQ, poll_delay {_TUNED_POLL:g} s", Sample(tuple(waits["tuned"])))
    bench.report.add(f"publish to handler, p50 ms: ARQ's default, {_DEFAULT_POLL:g} s", waits["default"][0])


async def _ours(system: Imago, count: int) -> list[float]:
    """Publish and handle messages in this process, without the database: the latency of stream and pull loop."""
    nats = NatsConnection(Settings(nats_url=(system.nats.url,)), name="bench")
    await nats.start()
    await nats.wait_connected(10)
    publisher, waits, sent, client = Publisher(nats, timeout=5), [], {}, uuid4()

    async def handle(delivery: Delivery) -> None:
        began = sent.get(json.loads(delivery.data)["image"])
        if began is not None:
            waits.append((time.perf_counter() - began) * 1000)
        await delivery.ack()

    lanes = WorkerLanes.parse(f"premium,{STANDARD}")
    consumer = WorkConsumer(nats, stages=(Stage.VISION,), lanes=lanes, max_jobs=10, heartbeat=10, handler=handle)
    running = asyncio.create_task(consumer.run())
    await asyncio.sleep(0.5)
    for number in range(count):
        message = WorkMessage(uuid4(), client, Stage.VISION, 1, 1)
        subject = work_subject(STANDARD, Stage.VISION, client)
        sent[str(message.image)] = time.perf_counter()
        await publisher.publish(OutboxRow(0, OutboxKind.WORK, subject, message.to_json(), {}, message.message_id))
        # Not in phase with any interval of the receiver.
        await asyncio.sleep(0.01 + 0.007 * (number % 7))
    await until(lambda: _reached(waits, count), what="all messages handled", timeout=120)
    await consumer.stop(grace=1)
    await running
    await nats.close()
    return waits


async def _reached(waits: list[float], count: int) -> bool:
    return len(waits) >= count


def _theirs(peer: Peer, count: int, poll_delay: float) -> list[float]:
    command = [peer.python, "-m", "bench.peer.latency", str(count), str(poll_delay)]
    done = subprocess.run(command, env=peer.environment, capture_output=True, check=False, text=True)
    if done.returncode != 0:
        raise UnexpectedAnswer(f"bench.peer.latency failed: {done.stderr[-500:]}")
    return list(json.loads(done.stdout))


def _noop(bench: Bench) -> None:
    """Measure no-op jobs in both queues per number of concurrent jobs; the target compares each queue's best."""
    report = bench.report
    best: dict[str, list[tuple[float, float]]] = {}
    for slots, jobs in _AT_ONCE.items():
        count = bench.size(jobs, 5 * jobs)
        measured: dict[str, list[tuple[float, float]]] = {"imago": [], "peer": []}
        for turn in bench.in_turn():
            for system in turn:
                measured[system.name].append(bench.run(_drain(system, count, slots)))
        for name, pairs in measured.items():
            rate = report.add(
                f"jobs without work, {slots} concurrent: {name}, jobs/s", Sample(tuple(pair[0] for pair in pairs))
            )
            report.add(
                f"jobs without work, {slots} concurrent: {name}, CPU ms per job",
                Sample(tuple(pair[1] for pair in pairs)),
            )
            if name not in best or rate > Sample(tuple(pair[0] for pair in best[name])).median:
                best[name] = pairs
    count, program = bench.size(600, 5000), "bench.floor_worker"
    floor = [bench.run(_drain(bench.imago, count, 10, program=program)) for _ in range(bench.rounds)]
    report.add("jobs without work: the floor, jobs/s", Sample(tuple(pair[0] for pair in floor)))
    report.add("jobs without work: the floor, CPU ms per job", Sample(tuple(pair[1] for pair in floor)))
    ours, theirs = best["imago"], best["peer"]
    report.add(
        "jobs without work: jobs/s, ratio to ARQ, each at its best",
        ratio([pair[0] for pair in ours], [pair[0] for pair in theirs]),
        relation=">=",
        target=3,
    )
    report.add(
        "jobs without work: CPU, ARQ's over ours, each at its best",
        ratio([pair[1] for pair in theirs], [pair[1] for pair in ours]),
    )
    report.note(
        "Both claim and end each job in the database, count its attempts and deduplicate its id. Imago "
        "also stores its result under a fence, and two events in the outbox, which it publishes. The number of "
        "concurrent jobs is a setting of both, 10 by default. The floor is only nats-py, which commits twice and "
        "acknowledges (`bench/floor_worker.py`)."
    )


async def _drain(
    system: Imago | Peer, count: int, slots: int, *, program: str = "bench.noop_worker"
) -> tuple[float, float]:
    """Return jobs per second, and CPU ms per job of worker, database and broker, without the first tenth."""
    if isinstance(system, Imago):
        ids = await _fill(system, count)
        command: list[object] = [sys.executable, "-m", program]
        database = system.database_url.replace("+asyncpg", "")
        environment = {
            **system.environment,
            "WORKER_MAX_JOBS": str(slots),
            "PYTHONPATH": str(ROOT),
            "FLOOR_DATABASE": database,
        }
        left = "SELECT count(*) FROM image_stages WHERE image_id >= $1 AND stage = 'exif' AND status <> 'done'"
        first = min(ids)
    else:
        fill = await asyncio.create_subprocess_exec(
            system.python, "-m", "bench.peer.fill", str(count), env=system.environment
        )
        assert await fill.wait() == 0, "the peer's jobs could not be made"
        command = [system.python.parent / "arq", "bench.peer.worker.WorkerSettings"]
        environment = {**system.environment, "PEER_MAX_JOBS": str(slots)}
        left = "SELECT count(*) FROM image_stages WHERE image_id >= $1 AND stage = 'noop' AND status <> 'done'"
        first = 0
    await analyse(system)
    connection = await asyncpg.connect(system.database_url.replace("+asyncpg", ""))
    log = system.folder / "noop.log"
    worker = start(command, environment, log)
    try:
        deadline = time.monotonic() + 300
        while (jobs := await connection.fetchval(left, first)) > count * 0.9:
            assert worker.poll() is None, f"the worker ended, see {log}"
            assert time.monotonic() < deadline, f"no job is done, see {log}"
            await asyncio.sleep(0.02)
        groups = {name: group for name, group in system.groups().items() if name in ("database", "broker")}
        meter, began = Meter({**groups, "worker": Group([worker.pid])}), time.perf_counter()
        while await connection.fetchval(left, first):
            assert time.monotonic() < deadline, f"jobs are left, see {log}"
            await asyncio.sleep(0.02)
        seconds, used = time.perf_counter() - began, sum(meter.used().values())
    finally:
        stop(worker)
        await connection.close()
    return jobs / seconds, used / jobs * 1000


async def _fill(system: Imago, count: int) -> list[int]:
    """Insert images with one open stage each, and publish their messages."""
    connection = await asyncpg.connect(system.database_url.replace("+asyncpg", ""))
    rows = await connection.fetch(
        """WITH made AS (INSERT INTO images (uuid, client_id, original_name, content_type, format, width, height,
             frames, size_bytes, sha256, object_key, status, created_at)
           SELECT gen_random_uuid(), 1, 'noop', 'image/jpeg', 'jpeg', 1, 1, 1, 1, repeat('0', 64), 'none/' || n,
             'pending', now() FROM generate_series(1, $1::int) AS n RETURNING id, uuid)
           INSERT INTO image_stages (image_id, stage, client_id, status, run, claim, attempts, epoch, lane)
           SELECT id, 'exif', 1, 'pending', 1, 0, 0, 1, 'standard' FROM made
           RETURNING image_id, (SELECT uuid FROM made WHERE id = image_id) AS uuid""",
        count,
    )
    client = await connection.fetchval("SELECT uuid FROM clients WHERE id = 1")
    await connection.close()
    nats = NatsConnection(Settings(nats_url=(system.nats.url,)), name="bench")
    await nats.start()
    await nats.wait_connected(10)
    messages = [WorkMessage(row["uuid"], client, Stage.EXIF, 1, 1) for row in rows]
    subject = work_subject(STANDARD, Stage.EXIF, client)
    await Publisher(nats, timeout=30).publish_many(
        [OutboxRow(0, OutboxKind.WORK, subject, each.to_json(), {}, each.message_id) for each in messages]
    )
    await nats.close()
    return [row["image_id"] for row in rows]
