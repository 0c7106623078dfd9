"""HTTP to providers: answers with a size limit, and the delays that they ask for."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson

from imago.core.times import utc_now

# An answer holds a page of text at most.
MAX_BODY = 4 * 2**20
CONNECT_SECONDS = 10.0

# A delay beyond this is a mistake, or as good as one.
LONGEST_DELAY = timedelta(days=1)

_CHUNK = 64 * 1024


class AnswerTooLarge(aiohttp.ClientPayloadError):
    """The provider's answer doesn't end within the limit."""


class LimitedResponse(aiohttp.ClientResponse):
    """A response that counts the bytes of its decompressed body, and reads JSON whatever type it is said to be."""

    async def read(self) -> bytes:
        """Return the body; raise AnswerTooLarge."""
        if self._body is None:
            body = bytearray()
            try:
                async for chunk in self.content.iter_chunked(_CHUNK):
                    body += chunk
                    if len(body) > MAX_BODY:
                        raise AnswerTooLarge("the answer is too large")
            except BaseException:
                self.close()
                raise
            self._body = bytes(body)
        return self._body

    async def json(self, **_: Any) -> Any:
        """Return the body's JSON; of a body that is none, a message with its beginning."""
        body = await self.read()
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            return {"message": body[:500].decode(errors="replace")}


def provider_session(*, timeout: float) -> aiohttp.ClientSession:
    """Return a session for providers: no cookies; proxies by the environment, as platforms set them."""
    return aiohttp.ClientSession(
        response_class=LimitedResponse,
        cookie_jar=aiohttp.DummyCookieJar(loop=asyncio.get_running_loop()),
        trust_env=True,
        timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, CONNECT_SECONDS)),
    )


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Return the delay that headers ask for: `Retry-After` in seconds or as a date, or OpenAI's `retry-after-ms`."""
    milliseconds = headers.get("retry-after-ms")
    if milliseconds is not None:
        return delay_of(milliseconds, unit=0.001)
    value = headers.get("Retry-After")
    if value is None:
        return None
    seconds = delay_of(value)
    if seconds is not None:
        return seconds
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _bounded(moment - utc_now())


def delay_until(epoch_ms: object) -> timedelta | None:
    """Return the time until a moment in milliseconds since the epoch (OpenRouter's `X-RateLimit-Reset`)."""
    try:
        return _bounded(datetime.fromtimestamp(float(str(epoch_ms)) / 1000, tz=UTC) - utc_now())
    except (ValueError, OverflowError, OSError):
        return None


def delay_of(text: str, *, unit: float = 1.0) -> timedelta | None:
    """Return a delay of a number of units (1: seconds), or None where the text is no such number."""
    try:
        return _bounded(timedelta(seconds=float(text) * unit))
    except (ValueError, OverflowError):
        return None


def _bounded(delay: timedelta) -> timedelta:
    return min(max(delay, timedelta(0)), LONGEST_DELAY)
