"""Claims and completions of single stages; a worker batches them."""

from collections.abc import Mapping
from datetime import timedelta

from imago.core.images.results import StageResult
from imago.core.jobs.claims import Claim, ClaimRejected, ClaimRequest, claim_stages
from imago.core.jobs.completion import StageCompletion, complete_stages
from imago.core.jobs.stage_outcomes import StageEnded
from imago.core.outbox.work_message import WorkMessage
from imago.db.engine import Database


async def claim_stage(
    db: Database, message: WorkMessage, *, lease: timedelta, max_tries: int, headers: Mapping[str, str] | None = None
) -> Claim | ClaimRejected:
    """Claim the run of a message; raise the result if it is an exception."""
    (claim,) = await claim_stages(db, [ClaimRequest(message, headers or {})], lease=lease, max_tries=max_tries)
    if isinstance(claim, Exception):
        raise claim
    return claim


async def complete_stage(
    db: Database,
    claim: Claim,
    result: StageResult,
    *,
    headers: Mapping[str, str] | None = None,
    thumbnail_key: str | None = None,
) -> StageEnded:
    """Store the result of a claim; raise ClaimLost."""
    (ended,) = await complete_stages(db, [StageCompletion(claim, result, headers or {}, thumbnail_key)])
    if isinstance(ended, Exception):
        raise ended
    return ended
