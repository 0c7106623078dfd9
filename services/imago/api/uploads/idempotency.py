"""The header Idempotency-Key of uploads: whose turn it is, held for as long as the upload streams."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog
from aiohttp import web

from imago.api.services import UploadServices
from imago.core.clients.model import Client
from imago.core.errors import Unprocessable
from imago.core.uploads.idempotency import FirstAnswer, KeyLease, claim_key, release_key, renew_key
from imago.db.engine import DatabaseUnavailable

log = structlog.get_logger(__name__)

HEADER = "Idempotency-Key"
MAX_LENGTH = 255


def requested_key(request: web.Request) -> str | None:
    """Return the key that a request names, None where it names none; raise Unprocessable for one we don't take."""
    values = request.headers.getall(HEADER, [])
    if not values:
        return None
    key = values[0]
    if len(values) > 1 or not 0 < len(key) <= MAX_LENGTH or not all("!" <= char <= "~" for char in key):
        text = f"Must be sent once, with 1 to {MAX_LENGTH} visible ASCII characters."
        raise Unprocessable(f"{HEADER}: {text}", extra={"errors": {HEADER: [text]}})
    return key


def fingerprint(sha256: str, filename: str) -> str:
    """Return what tells one upload from another under the same key: the file's bytes and its name."""
    return hashlib.sha256(f"{sha256}\0{filename}".encode(errors="surrogatepass")).hexdigest()


@asynccontextmanager
async def turn(
    services: UploadServices, client: Client, key: str | None
) -> AsyncIterator[KeyLease | FirstAnswer | None]:
    """Hold a key's lease while the block lasts, or give the first answer under it; None where there is no key.

    A block that leaves with an error gives the key back, so that the next try needn't wait for the lease's end. Raises
    IdempotencyInFlight.
    """
    if key is None:
        yield None
        return
    settings = services.settings
    lease = timedelta(seconds=settings.idempotency_lease)
    held = await claim_key(services.db, client.id, key, lease=lease, ttl=timedelta(seconds=settings.idempotency_ttl))
    if isinstance(held, FirstAnswer):
        yield held
        return
    renewing = asyncio.create_task(_renew(services, held, lease))
    try:
        yield held
    except BaseException:
        # Shielded, because a client that hangs up cancels this very task.
        await asyncio.shield(_release(services, held))
        raise
    finally:
        renewing.cancel()


async def _renew(services: UploadServices, held: KeyLease, lease: timedelta) -> None:
    while True:
        await asyncio.sleep(lease.total_seconds() / 3)
        try:
            if not await renew_key(services.db, held, lease=lease):
                # Its commit will be refused; until then nothing is lost by going on.
                log.warning("an Idempotency-Key was taken over while its upload was under way")
                return
        except DatabaseUnavailable:
            continue


async def _release(services: UploadServices, held: KeyLease) -> None:
    with contextlib.suppress(DatabaseUnavailable):
        await release_key(services.db, held)
