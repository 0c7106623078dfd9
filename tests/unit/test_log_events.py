"""Every log event has a stable key, and docs/logs.md lists exactly the keys that the source logs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from devtools.photos import ROOT

SOURCES = sorted([*(ROOT / "services").rglob("*.py"), *(ROOT / "operator").rglob("*.py")])
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}

# A noun and a state; hyphens join the words of a part.
KEY = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\.[a-z0-9]+(-[a-z0-9]+)*")

_ROW = re.compile(r"^\| `([^`]+)` \| ([a-z, ]+) \| (.+) \|$", re.MULTILINE)


def _log_calls(path: Path) -> Iterator[tuple[ast.Call, str]]:
    """Yield the calls of a module's loggers, with their level."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            logger = node.func.value
            name = logger.attr if isinstance(logger, ast.Attribute) else getattr(logger, "id", "")
            if name.lstrip("_") in ("log", "logger"):
                yield node, LEVELS[node.func.attr]


def _keys(call: ast.Call) -> list[str]:
    """Return the keys that a call may log: a string, or a choice between strings; empty for anything else."""
    event = call.args[0] if call.args else None
    choices = [event.body, event.orelse] if isinstance(event, ast.IfExp) else [event]
    return [str(choice.value) for choice in choices if isinstance(choice, ast.Constant)]


def _logged() -> dict[str, set[str]]:
    """Return the keys that the source logs, with their levels."""
    logged: dict[str, set[str]] = {}
    for path in SOURCES:
        for call, level in _log_calls(path):
            for key in _keys(call):
                logged.setdefault(key, set()).add(level)
    return logged


def test_every_log_call_has_a_key_of_a_noun_and_a_state() -> None:
    for path in SOURCES:
        for call, _ in _log_calls(path):
            keys = _keys(call)
            assert keys, f"{path}:{call.lineno}: the event is not a literal"
            assert all(KEY.fullmatch(key) for key in keys), f"{path}:{call.lineno}: {keys}"


def test_the_reference_lists_exactly_the_logged_keys_and_levels() -> None:
    documented = {key: set(levels.split(", ")) for key, levels, _ in _ROW.findall((ROOT / "docs/logs.md").read_text())}
    assert documented == _logged()


def test_the_reference_is_sorted() -> None:
    keys = [key for key, _, _ in _ROW.findall((ROOT / "docs/logs.md").read_text())]
    assert keys == sorted(keys)
    assert len(keys) > 20
