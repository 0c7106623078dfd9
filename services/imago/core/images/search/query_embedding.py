"""The embedding of a query, by the model that also embeds images (`EMBED_MODEL_DIR`)."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class QueryVector:
    """A query as a direction, with what its images are compared with.

    `model` is the fingerprint of the model. `vector` and the rows of `background` are of length 1, float32. The rows
    are texts that no picture shows: an image must be nearer to the query than to all of them, by `min_margin`.
    """

    model: str
    vector: bytes
    background: bytes
    min_margin: float


class QueryEmbedding(Protocol):
    """Embeds queries."""

    async def vector(self, query: str, *, client_id: int) -> QueryVector | None:
        """Return the vector of a client's query, or None if queries can't be embedded now."""
        ...
