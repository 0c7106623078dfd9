"""What a query is about: the concepts that search by meaning looks for."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class WeightedConcept(NamedTuple):
    """A concept that a query is about; `weight` is 1 to 1000."""

    concept: int
    weight: int


class QueryMeaning(Protocol):
    """Reads queries."""

    async def concepts(self, query: str, *, client_id: int) -> Sequence[WeightedConcept]:
        """Return what a client's query is about; nothing if that is unknown, or if queries can't be read now."""
        ...
