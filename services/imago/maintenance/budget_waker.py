"""What upkeep does about AI calls: held work goes on when there is room, and reservations of dead processes end."""

from datetime import timedelta

from imago.core.ai_usage.ledger import delete_old_calls, expire_reservations
from imago.core.jobs.budget_parking import find_parked_clients, wake_stages
from imago.db.engine import Database
from imago.settings import Settings

# Of one client at a turn; the next turn wakes the next ones.
BATCH = 500


class BudgetWaker:
    """Keeps the ledger of AI calls in order, and wakes what waited for a budget."""

    def __init__(self, settings: Settings, db: Database) -> None:
        self._db = db
        self._policy = settings.ai_budget_policy
        # Longer than any answer can take with its retries, its repair and its fallbacks.
        self._stale_after = timedelta(seconds=10 * settings.ai_timeout)
        self._kept_for = timedelta(days=settings.ai_calls_kept_days)

    async def run_once(self) -> int:
        """Wake as much as there is room for; return how many stages.

        Never more than the calls that are left: the others would only be claimed, refused and held again.
        """
        woken = 0
        for parked in await find_parked_clients(self._db, policy=self._policy):
            woken += await wake_stages(
                self._db, parked.client_id, limit=BATCH if parked.unbounded else min(parked.room, BATCH)
            )
        return woken

    async def clean_up(self) -> int:
        """End stale reservations and forget old calls; return how many."""
        expired = await expire_reservations(self._db, older_than=self._stale_after)
        return expired + await delete_old_calls(self._db, older_than=self._kept_for)
