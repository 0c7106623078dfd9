"""Wakes stages that wait for an AI budget, and removes stale reservations and old rows from the ledger of AI calls."""

from datetime import timedelta

from imago.core.ai_usage.ledger import delete_old_calls, expire_reservations
from imago.core.jobs.budget_parking import find_parked_clients, wake_stages
from imago.db.engine import Database
from imago.settings import Settings

# The maximum number of stages of a client in one run; the next run continues.
BATCH = 500


class BudgetWaker:
    """Wakes parked stages and cleans up the ledger of AI calls."""

    def __init__(self, settings: Settings, db: Database) -> None:
        self._db = db
        self._policy = settings.ai_budget_policy
        # Longer than any call with its retries, its repair request and its fallbacks.
        self._stale_after = timedelta(seconds=10 * settings.ai_timeout)
        self._kept_for = timedelta(days=settings.ai_calls_kept_days)

    async def run_once(self) -> int:
        """Wake parked stages of clients that have budget left; return the number of stages.

        At most as many as the client has calls left: further stages would be claimed, rejected and parked again.
        """
        woken = 0
        for parked in await find_parked_clients(self._db, policy=self._policy):
            limit = BATCH if parked.unbounded else min(parked.room, BATCH)
            woken += await wake_stages(self._db, parked.client_id, limit=limit)
        return woken

    async def clean_up(self) -> int:
        """End stale reservations and delete old calls; return the number of both."""
        expired = await expire_reservations(self._db, older_than=self._stale_after)
        return expired + await delete_old_calls(self._db, older_than=self._kept_for)
