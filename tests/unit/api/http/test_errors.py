"""The HTTP statuses of errors."""

from collections.abc import Iterator

from imago.api.http.errors import STATUSES
from imago.core.errors import Problem


def classes(base: type[Problem]) -> Iterator[type[Problem]]:
    """Yield a class and all that derive from it."""
    yield base
    for derived in base.__subclasses__():
        yield from classes(derived)


def test_every_error_has_a_status() -> None:
    assert set(classes(Problem)) == set(STATUSES)


def test_every_code_has_one_status() -> None:
    by_code: dict[str, set[int]] = {}
    for error, status in STATUSES.items():
        by_code.setdefault(error.code, set()).add(status)
    assert all(len(statuses) == 1 for statuses in by_code.values())
