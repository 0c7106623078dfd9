"""Indexes the images of earlier releases again, a bounded number in each run."""

import structlog

from imago.core.images.search.reindexing import reindex_batch
from imago.db.engine import Database

log = structlog.get_logger(__name__)

# Of 20 images each. Between two batches, the database serves other transactions.
_BATCHES = 50


class SearchReindexer:
    """Indexes images again until none is left."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def run_once(self) -> int:
        """Index the next images again; return their number."""
        total = 0
        for _ in range(_BATCHES):
            indexed = await reindex_batch(self._db)
            total += indexed
            if not indexed:
                break
        if total:
            log.info("search.reindexed", images=total)
        return total
