"""Failpoints: places in the code where a test can make the process die, freeze or skip a step.

The variable `FAILPOINTS` is a comma-separated list of `<name>=<action>`; `*<n>` limits an action to the first n hits:
`upload.stored=kill`, `stage.acking=skip*1`. In production it is unset, and a failpoint costs one lookup in an empty
dictionary.
"""

import os
import signal
from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """The effect of a failpoint."""

    KILL = "kill"
    """The process kills itself (SIGKILL): nothing is flushed, closed or released."""
    STOP = "stop"
    """The process freezes (SIGSTOP) until it receives SIGCONT."""
    SKIP = "skip"
    """`reach` returns True, and the caller skips its next step."""


NAMES = frozenset(
    {
        "upload.streaming",
        "upload.stored",
        "upload.committed",
        "outbox.publishing",
        "outbox.published",
        "stage.claimed",
        "stage.worked",
        "stage.committed",
        "stage.acking",
        "reprocess.starting",
        "reprocess.queued",
        "reprocess.counting",
    }
)


@dataclass
class _Armed:
    action: Action
    left: int | None


_armed: dict[str, _Armed] = {}


def parse(text: str) -> dict[str, tuple[Action, int | None]]:
    """Parse the value of `FAILPOINTS`; raise ValueError on an unknown name or action."""
    actions: dict[str, tuple[Action, int | None]] = {}
    for part in filter(None, (item.strip() for item in text.split(","))):
        name, _, rest = part.partition("=")
        action, _, hits = rest.partition("*")
        if name not in NAMES:
            raise ValueError(f"not a failpoint: {name!r}")
        actions[name] = Action(action), int(hits) if hits else None
    return actions


def arm(text: str) -> None:
    """Replace the failpoints of this process."""
    _armed.clear()
    _armed.update({name: _Armed(action, left) for name, (action, left) in parse(text).items()})


def reach(name: str) -> bool:
    """Run the action of a failpoint, if it is armed; return True if the caller must skip its next step."""
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
