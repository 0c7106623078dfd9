"""Queries as vectors, computed in a child process, because queries are anybody's."""

import base64
import time
from collections.abc import Sequence
from typing import Any

import structlog

from imago.ai.offline.meaning.anchors import load_anchors
from imago.ai.offline.meaning.text_model import normalized
from imago.core.images.search.query_embedding import QueryVector
from imago.core.images.search.recent import ObserveReading, RecentQueries, ignore_reading
from imago.core.isolation import IsolatedTasks
from imago.core.jobs.failures import StageFailure
from imago.embedding.model import EmbeddingModel
from imago.embedding.texts import EMBED_TEXTS_TASK
from imago.runtime.shares import FairShares, ShareExhausted

log = structlog.get_logger(__name__)

READERS = 1
"""The number of child processes that embed queries: each holds the model."""

# Including the opening of a large model by the first task.
EMBED_SECONDS = 30
# A search does not wait longer, but does without embeddings.
_WAIT_SECONDS = 3.0

# Queries and their vectors; about 4 KB each.
_REMEMBERED = 2000

# Of the texts that no picture shows; more raise the bar little and take computing time at the start.
_BACKGROUND = 96
_TEXTS_AT_ONCE = 8


class EmbeddedQueries:
    """Embeds queries, and remembers the latest ones. Until `prepare` has ended, queries have no vectors."""

    def __init__(
        self, tasks: IsolatedTasks, model: EmbeddingModel, *, observe: ObserveReading = ignore_reading
    ) -> None:
        self._tasks = tasks
        self._model = model
        self._observe = observe
        self._background = b""
        self._readers = FairShares(READERS)
        self._recent: RecentQueries[bytes] = RecentQueries(_REMEMBERED)

    async def prepare(self) -> None:
        """Embed the background; raise StageFailure."""
        texts = _background_texts()
        vectors: list[bytes] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            vectors += await self.embed(texts[start : start + _TEXTS_AT_ONCE])
        self._background = b"".join(vectors)

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """Return the vectors of texts; raise StageFailure."""
        arguments: dict[str, Any] = {"texts": list(texts), "model": self._model.arguments()}
        answer = await self._tasks.run(EMBED_TEXTS_TASK, arguments, timeout=EMBED_SECONDS, reads={})
        return [base64.b64decode(vector) for vector in answer]

    async def vector(self, query: str, *, client_id: int) -> QueryVector | None:
        """Return the vector of a client's query, or None if that is unknown, takes too long or fails."""
        text = normalized(query)
        if not text or not self._background:
            return None
        found = self._recent.get(text) or await self._embed_query(text, client_id=client_id)
        if found is None:
            return None
        return QueryVector(self._model.fingerprint, found, self._background, self._model.config.min_margin)

    async def _embed_query(self, text: str, *, client_id: int) -> bytes | None:
        started = time.monotonic()
        try:
            async with self._readers.hold(client_id, timeout=_WAIT_SECONDS):
                (found,) = await self.embed([text])
        except (StageFailure, ShareExhausted, OSError) as error:
            self._observe("busy" if isinstance(error, ShareExhausted) else "failed", time.monotonic() - started)
            log.warning("search.embedding-failed", error=type(error).__name__)
            return None
        self._observe("read", time.monotonic() - started)
        self._recent.put(text, found)
        return found


def _background_texts() -> tuple[str, ...]:
    texts = load_anchors().background
    return tuple(texts[index * len(texts) // _BACKGROUND] for index in range(_BACKGROUND))
