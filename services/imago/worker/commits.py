"""The commits of a worker's jobs: claims, results, failures and releases.

Concurrent claims share transactions, and so do concurrent results: each separate transaction costs at least four round
trips and a flush to disk.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TypeVar

from imago.core.concurrency.batching import BatchExecutor
from imago.core.jobs import claims, completion
from imago.core.jobs.claims import Claim, ClaimRejected, ClaimRequest, ClaimUnknown
from imago.core.jobs.completion import FailedAttempt, StageCompletion
from imago.core.jobs.failures import StageFailure
from imago.core.jobs.stage_outcomes import StageEnded
from imago.db.engine import Database, DatabaseUnavailable
from imago.settings import Settings

T = TypeVar("T")

# The pause before a failed commit is repeated.
RETRY_SECONDS = 1.0

# The most claims or results in one transaction, because it locks the images of all of them.
_MAX_BATCH_SIZE = 50


class JobCommits:
    """Commits what happens to a worker's jobs.

    `claim` and `extend` raise DatabaseUnavailable. The other methods repeat their commit until the database is
    available, because an outage is not the image's fault: the message is kept, and a late commit of a lost
    claim changes nothing. Only `release_within_lease` gives up, when the lease is over.
    `on_database_unavailable` is called after each failed commit that a job waits for.
    """

    def __init__(self, settings: Settings, db: Database, *, on_database_unavailable: Callable[[], None]) -> None:
        self._settings = settings
        self._db = db
        self._on_database_unavailable = on_database_unavailable
        self.lease = timedelta(seconds=settings.ack_wait)
        self._claims: BatchExecutor[ClaimRequest, Claim | ClaimRejected] = BatchExecutor(
            lambda requests: claims.claim_stages(db, requests, lease=self.lease, max_tries=settings.worker_max_tries),
            max_size=_MAX_BATCH_SIZE,
            not_retried=(DatabaseUnavailable,),
        )
        self._completions: BatchExecutor[StageCompletion, StageEnded] = BatchExecutor(
            lambda completions: completion.complete_stages(db, completions),
            max_size=_MAX_BATCH_SIZE,
            not_retried=(DatabaseUnavailable,),
        )

    async def claim(self, request: ClaimRequest) -> Claim | ClaimRejected:
        """Claim a run; raise DatabaseUnavailable, or ClaimUnknown if the claim may exist.

        A caller that is cancelled leaves no claim behind, which would be an attempt without work.
        """
        future = self._claims.submit(request)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await self._release_when_claimed(future)
            raise
        except DatabaseUnavailable:
            self._on_database_unavailable()
            raise

    async def extend(self, claim: Claim) -> bool:
        """Extend a claim's lease; return False if the claim is lost. Raises DatabaseUnavailable."""
        try:
            return await claims.extend_claim(self._db, claim, lease=self.lease)
        except DatabaseUnavailable:
            self._on_database_unavailable()
            raise

    async def complete(self, stage_completion: StageCompletion) -> StageEnded:
        """Store the result of a claim; raise ClaimLost."""
        return await self._until_committed(lambda: self._completions.submit(stage_completion))

    async def fail(self, claim: Claim, failure: StageFailure, headers: Mapping[str, str]) -> FailedAttempt:
        """Record a failed attempt; raise ClaimLost."""
        settings = self._settings
        return await self._until_committed(
            lambda: completion.fail_stage(
                self._db,
                claim,
                failure,
                max_tries=settings.worker_max_tries,
                base=timedelta(seconds=settings.retry_base),
                cap=timedelta(seconds=settings.retry_cap),
                headers=headers,
            )
        )

    async def release(self, claim: Claim) -> None:
        """Return the attempt of a claim."""
        await self._until_committed(lambda: claims.release_claim(self._db, claim))

    async def release_unknown(self, unknown: ClaimUnknown) -> None:
        """Return the attempt of a claim if it exists."""
        await self._until_committed(lambda: claims.release_unknown_claim(self._db, unknown))

    async def release_within_lease(self, claim: Claim) -> None:
        """Return the attempt of a claim, or give up after the length of a lease, so that a worker can stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.lease.total_seconds()):
                await self.release(claim)

    async def _release_when_claimed(self, future: asyncio.Future[Claim | ClaimRejected]) -> None:
        with contextlib.suppress(TimeoutError, DatabaseUnavailable):
            async with asyncio.timeout(self.lease.total_seconds()):
                try:
                    claim = await future
                except ClaimUnknown as unknown:
                    await self.release_unknown(unknown)
                else:
                    if isinstance(claim, Claim):
                        await self.release(claim)

    async def _until_committed(self, commit: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await commit()
            except DatabaseUnavailable:
                self._on_database_unavailable()
                await asyncio.sleep(RETRY_SECONDS)
