"""How the parts of a process are: each asked at once, with a deadline, and told by the name of its error alone."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from typing_extensions import TypedDict

from imago import __version__

# Raises where the part is away.
Check = Callable[[], Awaitable[None]]

CHECK_SECONDS = 3.0


class CheckResult(TypedDict):
    """Whether a dependency is available; `error` names the type of the error."""

    ok: bool
    seconds: float
    error: str | None


class DetailedHealth(TypedDict):
    """Whether each dependency is available."""

    status: Literal["ok", "degraded"]
    version: str
    parts: dict[str, CheckResult]


async def run_checks(checks: Mapping[str, Check]) -> tuple[bool, DetailedHealth]:
    """Ask each part whether it answers; return whether all do, and the body of `/health/detailed`."""
    results = await asyncio.gather(*(_examine(check) for check in checks.values()))
    parts = dict(zip(checks, results, strict=True))
    ok = all(part["ok"] for part in parts.values())
    return ok, {"status": "ok" if ok else "degraded", "version": __version__, "parts": parts}


async def _examine(check: Check) -> CheckResult:
    started = time.monotonic()
    error: str | None = None
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except Exception as failure:
        error = type(failure).__name__
    return {"ok": error is None, "seconds": round(time.monotonic() - started, 4), "error": error}
