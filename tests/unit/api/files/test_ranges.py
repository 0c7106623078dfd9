"""Ranges of objects: one range is kept, what doesn't apply is left out, and what can't be satisfied stays so."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from imago.api.files.ranges import effective_headers

ETAG = "18b-64"
MODIFIED = datetime(2026, 1, 2, 3, 4, 5, 600_000, UTC)
DATE = format_datetime(MODIFIED.replace(second=6), usegmt=True)
OTHER_DATE = format_datetime(MODIFIED.replace(year=2025), usegmt=True)


def effective(*headers: tuple[str, str], method: str = "GET") -> str | None:
    sent = CIMultiDictProxy(CIMultiDict(headers))
    kept = effective_headers(sent, method=method, size=100, etag=ETAG, modified=MODIFIED.timestamp())
    assert "If-Range" not in kept
    return kept.get("Range")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("bytes=0-9", "bytes=0-9"),
        ("Bytes= 5-", "bytes=5-"),
        ("bytes=-5", "bytes=-5"),
        ("bytes=9-5", "bytes=9-5"),
        ("bytes=-0", "bytes=100-"),
        ("bytes=0-1,3-4", None),
        ("bytes=0-,0-,0-", None),
        ("bytes=-", None),
        ("bytes=", None),
        ("bytes=a-b", None),
        ("bytes=1.5-2", None),
        ("bytes=\u0661-\u0662", None),
        ("bytes=" + "9" * 5000 + "-", None),
        ("items=0-9", None),
        ("bytes 0-9", None),
        ("", None),
    ],
)
def test_a_range(sent: str, kept: str | None) -> None:
    assert effective(("Range", sent)) == kept


def test_a_range_is_only_of_a_get_and_only_one() -> None:
    assert effective(("Range", "bytes=0-9"), method="HEAD") is None
    assert effective(("Range", "bytes=0-9"), ("Range", "bytes=20-29")) is None
    assert effective() is None


@pytest.mark.parametrize(
    ("condition", "applies"),
    [
        (f'"{ETAG}"', True),
        ('"another"', False),
        (f'W/"{ETAG}"', False),
        (DATE, True),
        (OTHER_DATE, False),
        ("nonsense", False),
        ("", False),
        (f'"{ETAG}", "another"', False),
    ],
)
def test_if_range(condition: str, applies: bool) -> None:
    assert effective(("Range", "bytes=0-9"), ("If-Range", condition)) == ("bytes=0-9" if applies else None)
