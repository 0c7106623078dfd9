"""The lanes that a worker serves: the setting `WORKER_LANES`."""

from dataclasses import dataclass

from imago.core.lanes.model import is_lane

# In `WORKER_LANES`: the dedicated lanes of all clients.
ANY_DEDICATED = "*"


@dataclass(frozen=True)
class WorkerLanes:
    """Named lanes in order of priority, and whether all dedicated lanes are served too."""

    named: tuple[str, ...]
    any_dedicated: bool

    @classmethod
    def parse(cls, text: str) -> "WorkerLanes":
        """Parse a comma-separated list such as `premium,standard,*`; raise ValueError on an unknown lane."""
        names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        if not names:
            raise ValueError("no lane named")
        for name in names:
            if name != ANY_DEDICATED and not is_lane(name):
                raise ValueError(f"not a lane: {name!r}")
        return cls(tuple(name for name in names if name != ANY_DEDICATED), ANY_DEDICATED in names)
