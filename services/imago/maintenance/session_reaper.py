"""Ends the database sessions of frozen processes, which would hold their locks otherwise."""

from datetime import timedelta

import structlog

from imago.db.engine import Database
from imago.db.frozen_sessions import end_frozen_sessions
from imago.telemetry import metrics

log = structlog.get_logger(__name__)


class SessionReaper:
    """Ends sessions that have been silent inside a statement for longer than `frozen_for`."""

    def __init__(self, db: Database, *, frozen_for: timedelta) -> None:
        self._db = db
        self._frozen_for = frozen_for

    async def run_once(self) -> int:
        """End the frozen sessions; return their number."""
        ended = await end_frozen_sessions(self._db, frozen_for=self._frozen_for)
        if ended:
            metrics.FROZEN_SESSIONS.inc(ended)
            log.warning("database.frozen-sessions-ended", sessions=ended)
        return ended
