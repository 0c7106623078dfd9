"""The pace of a peer: a standstill and a low average end the wait, a pause or a slow start don't."""

import pytest

from imago.api.server.pace import Pace, PaceLimits

LIMITS = PaceLimits(idle=10, min_rate=100, grace=30)


def ended_at(moved_by: dict[int, int], *, until: int = 300) -> int | None:
    """Return the second at which a wait ends whose peer has moved so many bytes by certain seconds."""
    pace, moved = Pace(LIMITS, now=0, moved=1000), 1000
    for second in range(1, until):
        moved += moved_by.get(second, 0)
        if pace.too_slow(now=second, moved=moved):
            return second
    return None


@pytest.mark.parametrize(
    ("moved_by", "end"),
    [
        ({}, 11),
        ({9: 1}, 20),
        (dict.fromkeys(range(0, 300, 5), 1), 31),
        (dict.fromkeys(range(0, 300, 5), 700), None),
        ({1: 100_000}, 12),
        (dict.fromkeys(range(0, 300, 9), 10000), None),
    ],
    ids=["a standstill", "one byte", "a byte every 5 s", "just fast enough", "a burst and nothing", "pauses"],
)
def test_a_wait_ends_for_a_peer_that_is_too_slow(moved_by: dict[int, int], end: int | None) -> None:
    assert ended_at(moved_by) == end
