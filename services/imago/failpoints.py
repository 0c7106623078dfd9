"""Failpoints: places where a test makes a process die, freeze or forget something, exactly there.

`FAILPOINTS` names them, comma-separated, each as `<name>=<action>`, and with `*<n>` for its first n hits alone:
`upload.stored=kill`, `stage.acking=skip*1`. Unset, as it always is in production, a failpoint costs a look into an
empty dictionary.
"""

import os
import signal
from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What happens at a failpoint."""

    KILL = "kill"
    """The process kills itself (SIGKILL): nothing is flushed, closed or given back."""
    STOP = "stop"
    """The process freezes (SIGSTOP) until somebody continues it."""
    SKIP = "skip"
    """`reach` says True, and the caller leaves out what it was about to do."""


NAMES = frozenset(
    {
        "upload.streaming",
        "upload.stored",
        "upload.committed",
        "announcer.publishing",
        "announcer.published",
        "stage.claimed",
        "stage.worked",
        "stage.committed",
        "stage.acking",
    }
)


@dataclass
class _Armed:
    action: Action
    left: int | None


_armed: dict[str, _Armed] = {}


def parse(text: str) -> dict[str, tuple[Action, int | None]]:
    """Read what `FAILPOINTS` says; raise ValueError on an unknown name or action."""
    found: dict[str, tuple[Action, int | None]] = {}
    for part in filter(None, (item.strip() for item in text.split(","))):
        name, _, rest = part.partition("=")
        action, _, times = rest.partition("*")
        if name not in NAMES:
            raise ValueError(f"not a failpoint: {name!r}")
        found[name] = Action(action), int(times) if times else None
    return found


def arm(text: str) -> None:
    """Set the failpoints of this process."""
    _armed.clear()
    _armed.update({name: _Armed(action, left) for name, (action, left) in parse(text).items()})


def reach(name: str) -> bool:
    """Do what is armed here; True where the caller is to leave out what it was about to do."""
    armed = _armed.get(name)
    if armed is None:
        return False
    if armed.left is not None:
        if armed.left == 0:
            return False
        armed.left -= 1
    if armed.action is Action.KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    if armed.action is Action.STOP:
        os.kill(os.getpid(), signal.SIGSTOP)
    return armed.action is Action.SKIP
