"""The memory of a process for what requests hold: JSON bodies, large responses, parts of uploads, and fetched pages.

Each holder, mostly a client, has a fair share of it (`imago.runtime.shares`).
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

from aiohttp import web

from imago.api.auth.rate_limits import address_subject
from imago.api.http.request_context import PRINCIPAL, Principal
from imago.core.errors import Overloaded, Problem, TooMuchInFlight
from imago.runtime.shares import FairShares, ShareExhausted
from imago.telemetry import metrics

MEMORY = web.AppKey("memory", FairShares)

# What a request in progress needs beside its body: its connection, task and headers.
REQUEST_BYTES = 32 * 1024

# Most requests end within a second.
_RETRY_SECONDS = 1

# How long an upload waits for memory; clients have longer timeouts. Meanwhile nothing of its body is read.
_WAIT_SECONDS = 10.0


def holder_of(request: web.Request) -> UUID | str:
    """Return the client of a request, or its platform key or the subject of its address."""
    principal: Principal | None = request.get(PRINCIPAL)
    if principal is None:
        return address_subject(request)
    return principal.name if principal.client is None else principal.client.uuid


@contextmanager
def memory_now(request: web.Request, size: int, *, of: str) -> Iterator[None]:
    """Hold memory during the block; raise TooMuchInFlight or Overloaded if there is not enough.

    `of` is what the memory is for, in metrics.
    """
    memory = request.app[MEMORY]
    with _refusals(memory, of), memory.hold_now(holder_of(request), size):
        yield


@asynccontextmanager
async def memory_soon(request: web.Request, size: int, *, of: str) -> AsyncIterator[None]:
    """Hold memory during the block, after waiting some seconds for it; raise the errors of `memory_now`."""
    memory = request.app[MEMORY]
    with _refusals(memory, of):
        async with memory.hold(holder_of(request), size, timeout=_WAIT_SECONDS):
            yield


@contextmanager
def _refusals(memory: FairShares, of: str) -> Iterator[None]:
    try:
        yield
    except ShareExhausted as exhausted:
        metrics.MEMORY_REFUSED.labels(of, "client" if exhausted.of_holder else "process").inc()
        raise _refusal(exhausted, memory) from None


def _refusal(exhausted: ShareExhausted, memory: FairShares) -> Problem:
    """Return the problem of a request for which there is no memory."""
    extra = {"limit": "request-memory", "bytes": memory.total}
    if exhausted.of_holder:
        text = "This client's requests in progress use its share of the server's memory; finish some of them first."
        return TooMuchInFlight(text, extra=extra, retry_after=_RETRY_SECONDS)
    text = "The requests in progress use the memory that this server has for them; try again."
    return Overloaded(text, extra=extra, retry_after=_RETRY_SECONDS)
