"""How the parts of a process are: each asked at once, with a deadline, and told by the name of its error alone."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from imago import __version__

# Raises where the part is away.
Check = Callable[[], Awaitable[None]]

CHECK_SECONDS = 3.0


async def run_checks(checks: Mapping[str, Check]) -> tuple[bool, dict[str, Any]]:
    """Ask each part whether it answers; return whether all do, and the body of `/health/detailed`."""
    results = await asyncio.gather(*(_examine(check) for check in checks.values()))
    parts = dict(zip(checks, results, strict=True))
    ok = all(part["ok"] for part in parts.values())
    return ok, {"status": "ok" if ok else "degraded", "version": __version__, "parts": parts}


async def _examine(check: Check) -> dict[str, Any]:
    started = time.monotonic()
    error: str | None = None
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except Exception as failure:
        error = type(failure).__name__
    return {"ok": error is None, "seconds": round(time.monotonic() - started, 4), "error": error}
