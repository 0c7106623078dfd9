"""The latest queries and what was found out about them."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, Literal, TypeVar

Found = TypeVar("Found")

ObserveReading = Callable[[Literal["read", "busy", "failed"], float], None]
"""Called with the outcome of reading a query by a model, and the seconds that it took with its time in the queue."""


def ignore_reading(_outcome: str, _seconds: float) -> None:
    """Observe nothing."""


class RecentQueries(Generic[Found]):
    """Remembers what belongs to the latest queries, at most `size` of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: OrderedDict[str, Found] = OrderedDict()

    def get(self, query: str) -> Found | None:
        """Return what belongs to a query, if it is remembered."""
        if query not in self._known:
            return None
        self._known.move_to_end(query)
        return self._known[query]

    def put(self, query: str, found: Found) -> None:
        """Remember what belongs to a query."""
        self._known[query] = found
        if len(self._known) > self._size:
            self._known.popitem(last=False)
