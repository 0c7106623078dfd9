"""Ends the database sessions of processes that froze, so that nobody waits for their locks."""

from datetime import timedelta

import structlog

from imago.db.engine import Database
from imago.db.frozen_sessions import end_frozen_sessions
from imago.telemetry import metrics

log = structlog.get_logger(__name__)


async def end_silent_sessions(db: Database, silent_for: timedelta) -> int:
    """End the sessions that have been silent within a statement for so long; return how many."""
    ended = await end_frozen_sessions(db, frozen_for=silent_for)
    if ended:
        metrics.FROZEN_SESSIONS.inc(ended)
        log.warning("ended database sessions of processes that froze", sessions=ended)
    return ended
