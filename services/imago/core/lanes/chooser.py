"""Which lane's message a worker takes next, when several wait for the one free slot."""

from collections.abc import Collection

from imago.core.lanes.model import PREMIUM, STANDARD, STANDARD_SHARE


class LaneChooser:
    """Chooses premium before standard, but standard for one choice in eight at least while it waits.

    Clients' own lanes go with premium, the one that was served longest ago first.
    """

    def __init__(self) -> None:
        self._standard_passed_over = 0
        self._served: dict[str, int] = {}
        self._choices = 0

    def choose(self, waiting: Collection[str]) -> str:
        """Choose among the lanes that wait, at least one, and remember the choice."""
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
