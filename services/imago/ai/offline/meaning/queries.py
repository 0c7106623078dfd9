"""What queries are about, read in a child process, because the model is C code and queries are anybody's."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import structlog

from imago.ai.offline.meaning.text_model import normalized
from imago.core.images.search.query_meaning import WeightedConcept
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
_CACHED = 2000


class CachedQueries:
    """Reads queries, and remembers the latest ones."""

    def __init__(self, tasks: IsolatedTasks, vectors: Path) -> None:
        self._tasks = tasks
        self._vectors = vectors
        self._readers = FairShares(READERS)
        self._known: OrderedDict[str, tuple[WeightedConcept, ...]] = OrderedDict()

    async def concepts(self, query: str, *, client_id: int) -> Sequence[WeightedConcept]:
        """Return what a query is about; nothing if that is unknown, or if it takes too long or fails."""
        text = normalized(query)
        if text in self._known:
            self._known.move_to_end(text)
            return self._known[text]
        if not self._vectors.is_file():
            return ()
        try:
            async with self._readers.hold(client_id, timeout=_WAIT_SECONDS):
                answer = await self._tasks.run(
                    WEIGH_TASK, {"query": text}, timeout=WEIGH_SECONDS, reads={"vectors": self._vectors}
                )
        except (StageFailure, ShareExhausted, OSError) as error:
            log.warning("search.meaning-failed", error=type(error).__name__)
            return ()
        concepts = tuple(WeightedConcept(int(concept), int(weight)) for concept, weight in answer)
        self._remember(text, concepts)
        return concepts

    def _remember(self, text: str, concepts: tuple[WeightedConcept, ...]) -> None:
        self._known[text] = concepts
        if len(self._known) > _CACHED:
            self._known.popitem(last=False)
