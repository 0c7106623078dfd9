"""Sessions of processes that froze (stopped, paused with their machine) in the middle of a transaction.

PostgreSQL ends a session that is idle in a transaction by itself (`idle_in_transaction_session_timeout`). A process
that froze between preparing a statement and executing it is `active` in the server's eyes, waits for its client
(`ClientRead`), and nothing of the server's before `transaction_timeout` (PostgreSQL 17) ends it: measured on 15, where
`statement_timeout` doesn't either. Its locks would stay until the process goes on.
"""

from datetime import timedelta

import sqlalchemy as sa

from imago.db.engine import APPLICATION_NAME, SYSTEM, Database

# Our own role's sessions alone: ending others' needs rights that the runtime role doesn't have.
_END = sa.text(
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
    """End the sessions of Imago whose process went silent within a statement, and their locks; return how many.

    SQLite has no sessions: nothing to do. Raises DatabaseUnavailable.
    """
    if db.is_sqlite:
        return 0
    async with db.write(SYSTEM) as connection:
        ended = await connection.scalar(_END, {"name": APPLICATION_NAME, "frozen_for": frozen_for})
    return int(ended or 0)
