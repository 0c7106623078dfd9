"""The choice of the lane whose message a worker takes next, when several wait for one free slot."""

from collections.abc import Collection

from imago.core.lanes.model import PREMIUM, STANDARD

# A worker takes at least one of this many messages from standard, so that premium cannot starve it.
STANDARD_SHARE = 8


class LaneChooser:
    """Prefers premium to standard, but chooses standard at least once in `STANDARD_SHARE` choices while it waits.

    Dedicated lanes have the priority of premium; among these, the lane served longest ago comes first.
    """

    def __init__(self) -> None:
        self._standard_passed_over = 0
        self._served: dict[str, int] = {}
        self._choices = 0

    def choose(self, waiting: Collection[str]) -> str:
        """Choose one of the waiting lanes (at least one) and record the choice."""
        others = [lane for lane in waiting if lane != STANDARD]
        if STANDARD in waiting and (not others or self._standard_passed_over >= STANDARD_SHARE - 1):
            lane = STANDARD
        else:
            lane = min(others, key=lambda name: (self._served.get(name, 0), name != PREMIUM, name))
        self._choices += 1
        self._served[lane] = self._choices
        if lane == STANDARD:
            self._standard_passed_over = 0
        elif STANDARD in waiting:
            self._standard_passed_over += 1
        return lane
