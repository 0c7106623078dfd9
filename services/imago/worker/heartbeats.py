"""Heartbeats of a running stage: one keeps its message, the other its claim."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import structlog

from imago.core.jobs.claims import Claim
from imago.db.engine import DatabaseUnavailable
from imago.nats.consumer import Delivery
from imago.worker.commits import JobCommits

log = structlog.get_logger(__name__)


@contextlib.contextmanager
def message_heartbeat(delivery: Delivery, *, interval: float) -> Iterator[None]:
    """Keep the message of a block from being redelivered.

    This is not a part of the claim's heartbeat, because a slow database would then give all messages to other workers.
    The work runs in child processes and threads, so it does not delay the heartbeat.
    """
    task = asyncio.create_task(_keep_message(delivery, interval))
    try:
        yield
    finally:
        task.cancel()


@contextlib.contextmanager
def claim_heartbeat(commits: JobCommits, claim: Claim, job: asyncio.Task[Any], *, interval: float) -> Iterator[None]:
    """Extend the lease of a claim during a block; cancel its job if the claim is lost."""
    task = asyncio.create_task(_keep_claim(commits, claim, job, interval))
    try:
        yield
    finally:
        task.cancel()


async def _keep_message(delivery: Delivery, interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        await delivery.in_progress()


async def _keep_claim(commits: JobCommits, claim: Claim, job: asyncio.Task[Any], interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        try:
            extended = await commits.extend(claim)
        except DatabaseUnavailable:
            continue
        except Exception:
            # Without heartbeats a second worker would start the same work.
            log.exception("claim.heartbeat-failed")
            continue
        if not extended:
            job.cancel()
            return
