"""A worker's transactions for a single stage; the worker itself batches them."""

from collections.abc import Mapping
from datetime import timedelta

from imago.core.images.results import StageResult
from imago.core.jobs import claims
from imago.core.jobs import completion as work
from imago.core.jobs.claims import Claim, Ended, Refused, Wanted
from imago.core.jobs.completion import Finished
from imago.core.outbox.work_message import WorkMessage
from imago.db.engine import Database


async def claim(
    db: Database, message: WorkMessage, *, lease: timedelta, max_tries: int, headers: Mapping[str, str] | None = None
) -> Claim | Refused:
    """Claim the run of a message; raise the result if it is an exception."""
    (claimed,) = await claims.claim(db, [Wanted(message, headers or {})], lease=lease, max_tries=max_tries)
    if isinstance(claimed, Exception):
        raise claimed
    return claimed


async def finish(
    db: Database,
    held: Claim,
    result: StageResult,
    *,
    headers: Mapping[str, str] | None = None,
    thumbnail_key: str | None = None,
) -> Ended:
    """Store the result of a claim; raise ClaimLost."""
    (ended,) = await work.finish(db, [Finished(held, result, headers or {}, thumbnail_key)])
    if isinstance(ended, Exception):
        raise ended
    return ended
