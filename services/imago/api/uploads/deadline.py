"""The timeouts of an upload from a slow client."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import ClientPayloadError

from imago.api.server.pace import RATE_GRACE_SECONDS
from imago.core.errors import RequestTimeout, Unprocessable
from imago.settings import Settings


class UploadDeadline:
    """The timeouts of an upload: for each wait for bytes, for all waits together, and a minimum rate.

    Only waiting for the client counts. Writes to storage have their own timeouts.
    """

    def __init__(self, settings: Settings) -> None:
        self._idle = settings.upload_idle_timeout
        self._total = settings.upload_total_timeout
        self._min_rate = settings.upload_min_rate
        self._waited = 0.0

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Limit the time of a wait for bytes; raise RequestTimeout, or Unprocessable if the body ends early."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(self._idle, self._total - self._waited))):
                yield
        except TimeoutError:
            raise RequestTimeout("The upload took too long or stalled.") from None
        except ClientPayloadError:
            raise Unprocessable("The request body ended early.") from None
        finally:
            self._waited += time.monotonic() - began

    def check_rate(self, size: int) -> None:
        """Raise RequestTimeout if the average rate is too low."""
        if self._waited > RATE_GRACE_SECONDS and size / self._waited < self._min_rate:
            raise RequestTimeout("The upload is too slow.")
