"""The quality of search, by the kind of query and its language."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from imago.evaluation.labels import QueryLabel


@dataclass(frozen=True)
class SearchScores:
    """The scores of one kind of query; of queries that should find nothing, only `empty` is a score."""

    kind: str
    queries: int
    empty: float
    first_right: float | None
    average_precision: float | None


def score_searches(queries: Sequence[QueryLabel], found: Mapping[str, tuple[str, ...]]) -> list[SearchScores] | None:
    """Return the scores of each kind of query; None without queries in the labels."""
    asked = [query for query in queries if query.q in found]
    kinds = dict.fromkeys(kind for query in asked for kind in _kinds(query))
    return [_score(kind, [query for query in asked if kind in _kinds(query)], found) for kind in kinds] or None


def average_precision(expected: Sequence[str], found: Sequence[str]) -> float:
    """Return the mean of the precisions at each expected file; those that were not found count as 0."""
    wanted, hits, total = set(expected), 0, 0.0
    for position, file in enumerate(found, start=1):
        if file in wanted:
            hits += 1
            total += hits / position
    return total / len(wanted) if wanted else 0.0


def _kinds(query: QueryLabel) -> list[str]:
    return [query.kind, *([f"{query.kind} {query.language}"] if query.language else [])]


def _score(kind: str, queries: list[QueryLabel], found: Mapping[str, tuple[str, ...]]) -> SearchScores:
    expecting = [query for query in queries if query.images]
    first = [any(file in query.images for file in found[query.q][:1]) for query in expecting]
    precisions = [average_precision(query.images, found[query.q]) for query in expecting]
    return SearchScores(
        kind=kind,
        queries=len(queries),
        empty=fmean(not found[query.q] for query in queries),
        first_right=fmean(first) if expecting else None,
        average_precision=fmean(precisions) if expecting else None,
    )
