"""What queries are about, read in a child process, because the model is C code and queries are anybody's."""

import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from imago.ai.offline.meaning.text_model import normalized
from imago.core.images.search.query_meaning import WeightedConcept
from imago.core.images.search.recent import ObserveReading, RecentQueries, ignore_reading
from imago.core.isolation import IsolatedTasks
from imago.core.jobs.failures import StageFailure
from imago.runtime.shares import FairShares, ShareExhausted

log = structlog.get_logger(__name__)

# The pool of child processes must have this task.
WEIGH_TASK = "weigh_query"
WEIGH_FUNCTION = "imago.ai.offline.meaning.task:weigh"

# The number of child processes; one reads 50 queries a second.
READERS = 1

# A query takes 20 ms of computing time, the first one a second.
WEIGH_SECONDS = 5
# A search does not wait longer, but answers without images by meaning.
_WAIT_SECONDS = 3.0

# Queries and their concepts; about 2 KB each.
_REMEMBERED = 2000


class CachedQueries:
    """Reads queries, and remembers the latest ones."""

    def __init__(self, tasks: IsolatedTasks, vectors: Path, *, observe: ObserveReading = ignore_reading) -> None:
        self._tasks = tasks
        self._vectors = vectors
        self._observe = observe
        self._readers = FairShares(READERS)
        self._recent: RecentQueries[tuple[WeightedConcept, ...]] = RecentQueries(_REMEMBERED)

    async def concepts(self, query: str, *, client_id: int) -> Sequence[WeightedConcept]:
        """Return what a query is about; nothing if that is unknown, or if it takes too long or fails."""
        text = normalized(query)
        known = self._recent.get(text)
        if known is not None:
            return known
        if not self._vectors.is_file():
            return ()
        started = time.monotonic()
        try:
            async with self._readers.hold(client_id, timeout=_WAIT_SECONDS):
                answer = await self._tasks.run(
                    WEIGH_TASK, {"query": text}, timeout=WEIGH_SECONDS, reads={"vectors": self._vectors}
                )
        except (StageFailure, ShareExhausted, OSError) as error:
            self._observe("busy" if isinstance(error, ShareExhausted) else "failed", time.monotonic() - started)
            log.warning("search.meaning-failed", error=type(error).__name__)
            return ()
        self._observe("read", time.monotonic() - started)
        concepts = tuple(WeightedConcept(int(concept), int(weight)) for concept, weight in answer)
        self._recent.put(text, concepts)
        return concepts
