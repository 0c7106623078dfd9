"""Logging with structlog: JSON lines on standard error, with request and trace ids, and without secrets.

The `event` of a line is a stable key (`stage.retried`), and the optional `message` a sentence. Lines of libraries that
use the standard library's logging (aiohttp, nats, SQLAlchemy, asyncio) pass through the same redaction; their `event`
is the library's text, and `logger` the name of its logger. Lines of Imago have no `logger`.
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

from imago.telemetry.stray_lines import log_stray_lines

# Patterns of API keys, signed tokens, credentials in URLs and signatures in query strings.
_SECRETS = re.compile(
    r"imago_[0-9A-Za-z]{8}_[0-9A-Za-z]{20,}(?:_[0-9A-Za-z]+)?"
    r"|(?<=/files/signed/)[A-Za-z0-9_.-]+"
    r"|(?<=://)[^/@\s:]+:[^/@\s]+(?=@)"
    r"|(?<=[?&]X-Amz-Signature=)[0-9a-fA-F]+"
    # Google's and OpenAI's formats of keys, which providers repeat in their errors.
    r"|AIza[0-9A-Za-z_-]{20,}|sk-[0-9A-Za-z_-]{16,}"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]+"
)
# Clients determine texts, such as names in requests; their length must not be theirs to determine. Secrets are searched
# a bit beyond it, so that none is cut in two.
_MAX_TEXT = 4_000
_LONGEST_SECRET = 500

_SECRET_KEYS = frozenset({"authorization", "x-api-key", "api_key", "password", "secret", "token", "cookie"})

# Libraries whose debug and info lines are noise. At level debug, aiosqlite would also log every statement with its
# parameters, which are clients' data.
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

# Tracebacks without local variables, which can hold keys, digests and clients' data.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


def configure_logging(*, level: str, console: bool = False) -> None:
    """Configure structlog and the standard library's logging; `console` selects a human-readable format."""
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
        # Without the standard library, which takes three times as long per line: a sixth of a small request's CPU time.
        structlog.configure(
            processors=[*shared, structlog.processors.JSONRenderer(serializer=_dump_bytes)],
            logger_factory=lambda *_: _StderrLogger(),
            wrapper_class=structlog.make_filtering_bound_logger(level.lower()),
            cache_logger_on_first_use=True,
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    if not console:
        log_stray_lines()


class _StderrLogger:
    """Writes lines to the current `sys.stderr`."""

    def msg(self, line: bytes) -> None:
        # A line that can't be written (closed pipe, full disk) must not fail its request or job.
        if sys.stderr is None:
            # Standard error was closed when the process started.
            return
        with contextlib.suppress(OSError, ValueError):
            stream = sys.stderr.buffer
            remaining = memoryview(line + b"\n")
            # One call per line, so that lines of threads don't mix; but an unbuffered stream may write only a part.
            while remaining:
                remaining = remaining[stream.write(remaining) or len(remaining) :]
            stream.flush()

    debug = info = warning = error = critical = msg


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace secrets: the values of fields with secret names, and anything in a text that looks like a secret."""
    return {
        str(key): "[redacted]" if str(key).lower() in _SECRET_KEYS else _clean(value) for key, value in event.items()
    }


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        clean = _SECRETS.sub("[redacted]", value[: _MAX_TEXT + _LONGEST_SECRET])
        return clean if len(value) <= _MAX_TEXT else f"{clean[:_MAX_TEXT]}…"
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
        return orjson.dumps(event, default=_repr)
    except TypeError:
        # orjson rejects lone surrogates and integers beyond 64 bits.
        return json.dumps(event, default=_repr).encode()


def _repr(value: object) -> Any:
    return _clean(repr(value))
