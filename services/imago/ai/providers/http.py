"""HTTP for providers: a session with limited responses, transport errors as failures, and retry delays."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson
from opentelemetry.instrumentation.utils import suppress_http_instrumentation

from imago.ai.providers.failures import CallFailed, CallOutcome
from imago.core.times import utc_now

# The largest response is a page of text.
MAX_BODY = 4 * 2**20
CONNECT_SECONDS = 10.0

# A longer delay is treated as an error of the provider.
MAX_DELAY = timedelta(days=1)

_CHUNK = 64 * 1024


class ResponseTooLarge(aiohttp.ClientPayloadError):
    """The provider's response exceeds the limit."""


class LimitedResponse(aiohttp.ClientResponse):
    """A response that limits its decompressed body, and parses JSON whatever its content type is."""

    async def read(self) -> bytes:
        """Return the body; raise ResponseTooLarge."""
        if self._body is None:
            body = bytearray()
            try:
                async for chunk in self.content.iter_chunked(_CHUNK):
                    body += chunk
                    if len(body) > MAX_BODY:
                        raise ResponseTooLarge("the response is too large")
            except BaseException:
                self.close()
                raise
            self._body = bytes(body)
        return self._body

    async def json(self, **_: Any) -> Any:
        """Return the JSON of the body, or the beginning of a body that is not JSON as `message`."""
        body = await self.read()
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            return {"message": body[:500].decode(errors="replace")}


class ProviderSession:
    """The HTTP session of a model, opened on first use. It has no cookies, and uses the proxies of the environment."""

    def __init__(self, *, timeout: float) -> None:
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    def get(self) -> aiohttp.ClientSession:
        """Return the session; it needs a running event loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                response_class=LimitedResponse,
                cookie_jar=aiohttp.DummyCookieJar(loop=asyncio.get_running_loop()),
                trust_env=True,
                timeout=aiohttp.ClientTimeout(total=self._timeout, sock_connect=min(self._timeout, CONNECT_SECONDS)),
            )
        return self._session

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()


@contextmanager
def provider_request() -> Iterator[None]:
    """Raise transport errors of the block as CallFailed, and keep its requests out of traces."""
    try:
        with suppress_http_instrumentation():
            yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise CallFailed(CallOutcome.UNAVAILABLE, type(error).__name__) from None
    except TimeoutError:
        raise CallFailed(CallOutcome.TIMEOUT, reached=True) from None
    except (aiohttp.ClientError, OSError) as error:
        # The connection failed after the request was sent, so the model may have processed it.
        raise CallFailed(CallOutcome.ERROR, type(error).__name__, reached=True) from None


def retry_delay(headers: Mapping[str, str]) -> timedelta | None:
    """Return the delay in the headers: `Retry-After` in seconds or as a date, or OpenAI's `retry-after-ms`."""
    milliseconds = headers.get("retry-after-ms")
    if milliseconds is not None:
        return parse_delay(milliseconds, unit=0.001)
    value = headers.get("Retry-After")
    if value is None:
        return None
    seconds = parse_delay(value)
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


def parse_delay(text: str, *, unit: float = 1.0) -> timedelta | None:
    """Return the delay of a number of units of `unit` seconds, or None if the text is not a valid number."""
    try:
        return _bounded(timedelta(seconds=float(text) * unit))
    except (ValueError, OverflowError):
        return None


def _bounded(delay: timedelta) -> timedelta:
    return min(max(delay, timedelta(0)), MAX_DELAY)
