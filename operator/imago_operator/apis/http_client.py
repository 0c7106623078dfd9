"""The HTTP client under the clients of Imago's API and of Kubernetes: a timeout for each attempt, and retries."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

TRANSIENT_STATUSES = frozenset({429, 500, 502, 503, 504})
CONNECTION_ERRORS = (aiohttp.ClientError, OSError, TimeoutError)
# Longer waits, such as a large Retry-After, are left to the next reconciliation.
MAX_DELAY = 3.0


@dataclass(frozen=True)
class HttpReply:
    """A status code, the decoded JSON body (the text if it is not JSON), and the seconds of Retry-After."""

    status: int
    body: Any
    retry_after: float


@dataclass(frozen=True)
class RetryPolicy:
    """How often a request is attempted, and the delay before the second attempt; each further delay doubles."""

    attempts: int
    first_delay: float
    statuses: frozenset[int] = TRANSIENT_STATUSES

    def delay(self, attempt: int, retry_after: float) -> float:
        """Return the seconds to wait after an attempt (counted from 0), with jitter, at least `retry_after`."""
        backoff: float = self.first_delay * 2**attempt * random.uniform(0.5, 1)  # noqa: S311 - jitter is no secret
        return min(max(backoff, retry_after), MAX_DELAY)


class HttpClient:
    """One session that is opened by `async with`; requests are repeated, so they must be idempotent or fail safely."""

    def __init__(self, *, timeout: float, retries: RetryPolicy) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._retries = retries
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def _send_with_retries(self, send: Callable[[], Awaitable[HttpReply]]) -> HttpReply:
        """Return the first reply without a transient status, else the last reply; raise the last connection error."""
        for attempt in range(self._retries.attempts - 1):
            retry_after = 0.0
            try:
                reply = await send()
            except CONNECTION_ERRORS:
                pass
            else:
                if reply.status not in self._retries.statuses:
                    return reply
                retry_after = reply.retry_after
            await asyncio.sleep(self._retries.delay(attempt, retry_after))
        return await send()

    async def _send(self, method: str, url: str, **options: Any) -> HttpReply:
        """Make one attempt, without following redirects: they would carry credentials to another server."""
        if self._session is None:
            raise RuntimeError("the session is not open")
        async with self._session.request(method, url, allow_redirects=False, **options) as response:
            text = await response.text(errors="replace")
            retry_after = response.headers.get("Retry-After", "")
            return HttpReply(response.status, _decoded_json(text), float(retry_after) if retry_after.isdigit() else 0.0)


def _decoded_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        # An empty body, or the page of a proxy.
        return text
