"""The header Idempotency-Key of uploads. A request holds the lease on its key while it runs."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog
from aiohttp import web

from imago.api.http.services import UploadServices
from imago.core.clients.model import Client
from imago.core.errors import Unprocessable
from imago.core.uploads.idempotency import FirstResponse, KeyLease, acquire_key, release_key, renew_key
from imago.db.engine import DatabaseUnavailable

log = structlog.get_logger(__name__)

HEADER = "Idempotency-Key"
MAX_LENGTH = 255


def requested_key(request: web.Request) -> str | None:
    """Return the request's Idempotency-Key or None; raise Unprocessable if it is invalid."""
    values = request.headers.getall(HEADER, [])
    if not values:
        return None
    key = values[0]
    if len(values) > 1 or not 0 < len(key) <= MAX_LENGTH or not all("!" <= char <= "~" for char in key):
        text = f"Must be sent once, with 1 to {MAX_LENGTH} visible ASCII characters."
        raise Unprocessable(f"{HEADER}: {text}", extra={"errors": {HEADER: [text]}})
    return key


def fingerprint(sha256: str, filename: str) -> str:
    """Return a hash of the file's contents and name, which identifies an upload under its key."""
    return hashlib.sha256(f"{sha256}\0{filename}".encode(errors="surrogatepass")).hexdigest()


@asynccontextmanager
async def idempotent(
    services: UploadServices, client: Client, key: str | None
) -> AsyncIterator[KeyLease | FirstResponse | None]:
    """Yield the lease on a key and renew it during the block, or yield the first response; None without a key.

    On an error the key is released, so that a retry doesn't have to wait for the lease to expire. Raises
    IdempotencyInFlight.
    """
    if key is None:
        yield None
        return
    settings = services.settings
    lease = timedelta(seconds=settings.idempotency_lease)
    acquired = await acquire_key(
        services.db, client.id, key, lease=lease, ttl=timedelta(seconds=settings.idempotency_ttl)
    )
    if isinstance(acquired, FirstResponse):
        yield acquired
        return
    renewing = asyncio.create_task(_renew(services, acquired, lease))
    try:
        yield acquired
    except BaseException:
        # Shielded, because a client that disconnects cancels this task.
        await asyncio.shield(_release(services, acquired))
        raise
    finally:
        renewing.cancel()


async def _renew(services: UploadServices, held: KeyLease, duration: timedelta) -> None:
    while True:
        await asyncio.sleep(duration.total_seconds() / 3)
        try:
            if not await renew_key(services.db, held, lease=duration):
                # The upload continues, but its commit will be rejected.
                log.warning("idempotency-key.taken-over")
                return
        except DatabaseUnavailable:
            continue


async def _release(services: UploadServices, held: KeyLease) -> None:
    with contextlib.suppress(DatabaseUnavailable):
        await release_key(services.db, held)
