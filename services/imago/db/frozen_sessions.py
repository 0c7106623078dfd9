"""Ends the sessions of processes that froze (stopped, or paused with their machine) inside a transaction.

PostgreSQL itself ends a session that is idle in a transaction (`idle_in_transaction_session_timeout`). A process that
froze between preparing and executing a statement is different: its session is `active` and waits for its client
(`ClientRead`), and no server setting before `transaction_timeout` (PostgreSQL 17) ends it. On 15, measured,
`statement_timeout` does not either. Its locks would remain until the process continues.
"""

from datetime import timedelta

import sqlalchemy as sa

from imago.db.engine import APPLICATION_NAME, SYSTEM, Database

# Only sessions of the same role: the runtime role lacks the privilege to terminate others.
_TERMINATE = sa.text(
    """
    SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))
    FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND application_name = :name
      AND pid <> pg_backend_pid()
      AND state = 'active' AND wait_event = 'ClientRead'
      AND state_change < clock_timestamp() - CAST(:frozen_for AS interval)
    """
)


async def end_frozen_sessions(db: Database, *, frozen_for: timedelta) -> int:
    """End Imago's sessions whose process has been silent inside a statement for `frozen_for`; return their number.

    Does nothing on SQLite, which has no sessions. Raises DatabaseUnavailable.
    """
    if db.is_sqlite:
        return 0
    async with db.write(SYSTEM) as connection:
        ended = await connection.scalar(_TERMINATE, {"name": APPLICATION_NAME, "frozen_for": frozen_for})
    return int(ended or 0)
