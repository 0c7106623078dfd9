"""Logs by structlog: JSON lines on standard error, with request and trace ids, and never a secret.

The standard library's logging (aiohttp, nats, SQLAlchemy, asyncio) goes the same way and through the same redaction.
"""

import contextlib
import json
import logging
import re
import sys
from typing import Any

import orjson
import structlog
from opentelemetry import trace
from structlog.typing import EventDict

# What our keys, signed tokens, credentials in URLs and signatures in queries look like.
_SECRETS = re.compile(
    r"imago_[0-9A-Za-z]{8}_[0-9A-Za-z]{20,}(?:_[0-9A-Za-z]+)?"
    r"|(?<=/files/signed/)[A-Za-z0-9_.-]+"
    r"|(?<=://)[^/@\s:]+:[^/@\s]+(?=@)"
    r"|(?<=[?&]X-Amz-Signature=)[0-9a-fA-F]+"
    # Google's and OpenAI's kinds of key, which providers like to repeat in their errors.
    r"|AIza[0-9A-Za-z_-]{20,}|sk-[0-9A-Za-z_-]{16,}"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]+"
)
_SECRET_KEYS = frozenset({"authorization", "x-api-key", "api_key", "password", "secret", "token", "cookie"})

# Libraries that tell more than an operator of Imago wants to know.
# At level debug, aiosqlite would log every statement with its parameters: tenants' data.
_QUIET = (
    "aiosqlite",
    "alembic",
    "aiohttp.access",
    "botocore",
    "aiobotocore",
    "urllib3",
    "asyncio",
    "PIL",
    "google_genai",
    "httpx",
)


# Local variables hold keys, digests and tenants' data; a traceback is told without them.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


def configure_logging(*, level: str, console: bool = False) -> None:
    """Set up structlog and the standard library's logging for the process; `console` is for people's eyes."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        *([] if console else [_TRACEBACKS]),
        redact,
    ]
    if console:
        renderer: Any = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        structlog.configure(
            processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
            cache_logger_on_first_use=True,
        )
    else:
        renderer = structlog.processors.JSONRenderer(serializer=_dumps)
        # Past the standard library, which takes three times as long for a line: a sixth of a small request's CPU.
        structlog.configure(
            processors=[*shared, structlog.processors.JSONRenderer(serializer=_dump_bytes)],
            logger_factory=lambda *_: _StandardError(),
            wrapper_class=structlog.make_filtering_bound_logger(level.lower()),
            cache_logger_on_first_use=True,
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class _StandardError:
    """Writes lines to what standard error is by then."""

    def msg(self, line: bytes) -> None:
        # No request and no job fails because its line can't be written: nobody reads the pipe, the disk is full.
        if sys.stderr is None:
            # Python's own way to say that it was closed when the process began.
            return
        with contextlib.suppress(OSError, ValueError):
            stream = sys.stderr.buffer
            left = memoryview(line + b"\n")
            # In one call, so that lines of several threads don't mix; but an unbuffered stream may take only a part.
            while left:
                left = left[stream.write(left) or len(left) :]
            stream.flush()

    debug = info = warning = error = critical = msg


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Take secrets out of an event: under telling names, and wherever one stands in a text."""
    return {
        str(key): "[redacted]" if str(key).lower() in _SECRET_KEYS else _clean(value) for key, value in event.items()
    }


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _SECRETS.sub("[redacted]", value)
    if isinstance(value, dict):
        return redact(None, "", value)
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value


def _add_trace(_logger: object, _method: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
    return event


def _dumps(event: dict[str, Any], **_: Any) -> str:
    return _dump_bytes(event).decode()


def _dump_bytes(event: dict[str, Any], **_: Any) -> bytes:
    try:
        return orjson.dumps(event, default=_told)
    except TypeError:
        # Half a character of UTF-16, or a number past 64 bits.
        return json.dumps(event, default=_told).encode()


def _told(value: object) -> Any:
    return _clean(repr(value))
