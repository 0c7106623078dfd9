"""Health checks of a process's dependencies: run concurrently with a timeout, and reported without error texts."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from typing_extensions import TypedDict

from imago import __version__

# Raises an exception if the dependency is unavailable.
Check = Callable[[], Awaitable[None]]

CHECK_TIMEOUT_SECONDS = 3.0


class CheckResult(TypedDict):
    """Whether a dependency is available; `error` is the name of the error's type."""

    ok: bool
    seconds: float
    error: str | None


class DetailedHealth(TypedDict):
    """Whether each dependency is available."""

    status: Literal["ok", "degraded"]
    version: str
    parts: dict[str, CheckResult]


async def run_checks(checks: Mapping[str, Check]) -> tuple[bool, DetailedHealth]:
    """Run all checks concurrently; return whether all succeeded, and the body of `/health/detailed`."""
    results = await asyncio.gather(*(_run_check(check) for check in checks.values()))
    parts = dict(zip(checks, results, strict=True))
    ok = all(part["ok"] for part in parts.values())
    return ok, {"status": "ok" if ok else "degraded", "version": __version__, "parts": parts}


async def _run_check(check: Check) -> CheckResult:
    started = time.monotonic()
    # Only the name of the error: its text can contain credentials.
    error: str | None = None
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await check()
    except Exception as failure:
        error = type(failure).__name__
    return {"ok": error is None, "seconds": round(time.monotonic() - started, 4), "error": error}
