"""Receiving a file: streaming it to storage, counting and hashing it, with timeouts for slow clients."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import (
    BodyPartReader,
    ClientPayloadError,
    MultipartReader,
    content_disposition_filename,
    parse_content_disposition,
    web,
)
from aiohttp.http_exceptions import HttpProcessingError

from imago import failpoints
from imago.core.errors import EmptyFile, RequestTimeout, TooLarge, Unprocessable, UnsupportedMediaType
from imago.imaging.header import sniff
from imago.objects.store import ObjectWriter
from imago.settings import Settings

# The form parser's overhead is per chunk; with chunks of 256 KB, a file of 900 KB takes 0.26 ms.
CHUNK_BYTES = 256 * 1024

# Other fields of the form are ignored if they are small.
MAX_OTHER_FIELDS = 16
MAX_OTHER_BYTES = 64 * 1024

# The maximum size of the form's headers and boundaries.
FORM_OVERHEAD = 64 * 1024

# What aiohttp's form parser raises for malformed forms.
_FORM_ERRORS = (ValueError, AssertionError, RuntimeError, LookupError, HttpProcessingError)

# The minimum rate is not enforced during the first seconds of waiting.
RATE_GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Received:
    """The size and hash of a received file, and its content if it is at most one chunk."""

    size_bytes: int
    sha256: str
    content: bytes | None


@dataclass(frozen=True)
class FilePart:
    """The form part with the file, which is not read yet."""

    part: BodyPartReader
    filename: str | None


class DiscardingWriter:
    """An `ObjectWriter` that stores nothing, for replayed uploads, which are only hashed."""

    async def write(self, chunk: bytes) -> None:
        """Discard the bytes."""

    async def commit(self) -> None:
        """Do nothing."""


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


async def find_file(request: web.Request, settings: Settings, deadline: UploadDeadline) -> FilePart:
    """Return the form part `file`; raise Unprocessable if there is none, TooLarge if the body can't fit."""
    length = request.content_length
    if length is not None and length > settings.max_upload_bytes + FORM_OVERHEAD:
        raise too_large(settings)
    if request.content_type != "multipart/form-data":
        raise _field_problem("Send a form (multipart/form-data) with a field `file`.")
    try:
        form = await request.multipart()
        for _ in range(MAX_OTHER_FIELDS):
            async with deadline.waiting():
                part = await form.next()
                if part is None:
                    break
                if isinstance(part, MultipartReader):
                    raise _field_problem("The form contains a nested form.")
                # Parsed once: the part's properties `name` and `filename` each parse the header, which takes 0.04 ms.
                _, parameters = parse_content_disposition(part.headers.get("Content-Disposition"))
                if content_disposition_filename(parameters, "name") == "file":
                    _check_encoding(part)
                    return FilePart(part, content_disposition_filename(parameters, "filename"))
                await _skip(part)
    except _FORM_ERRORS:
        raise _field_problem("The form is malformed.") from None
    raise _field_problem("The form has no field `file`.")


async def receive(file: FilePart, writer: ObjectWriter, settings: Settings, deadline: UploadDeadline) -> Received:
    """Stream a file to storage.

    Raises UnsupportedMediaType after the first bytes of an unsupported format, TooLarge as soon as the limit is
    exceeded, EmptyFile, Unprocessable, and RequestTimeout if the client stalls or is too slow.
    """
    digest, size, content = hashlib.sha256(), 0, bytearray()
    while chunk := await _read_chunk(file, deadline):
        if size == 0 and len(chunk) >= 256 and sniff(chunk[:256]) is None:
            raise UnsupportedMediaType("Unsupported file type; expected JPEG, PNG, GIF, WebP, TIFF, BMP, HEIC or AVIF.")
        size += len(chunk)
        if size > settings.max_upload_bytes:
            raise too_large(settings)
        # Hashing a chunk takes 0.14 ms, about as long as switching to a thread.
        digest.update(chunk)
        if size <= CHUNK_BYTES:
            content += chunk
        await writer.write(chunk)
        failpoints.reach("upload.streaming")
        deadline.check_rate(size)
    if size == 0:
        raise EmptyFile("The file is empty.")
    return Received(size, digest.hexdigest(), bytes(content) if size <= CHUNK_BYTES else None)


async def _read_chunk(file: FilePart, deadline: UploadDeadline) -> bytes:
    async with deadline.waiting():
        try:
            return bytes(await file.part.read_chunk(CHUNK_BYTES))
        except _FORM_ERRORS:
            raise _field_problem("The form is malformed.") from None


def too_large(settings: Settings) -> TooLarge:
    """Return the error for a file above the size limit."""
    return TooLarge(
        f"The file is larger than {settings.max_upload_size_mb} MB.",
        extra={"max_upload_size_bytes": settings.max_upload_bytes},
    )


def _check_encoding(part: BodyPartReader) -> None:
    # No client that sends files encodes them, and decoders would be an attack surface.
    for name in ("Content-Encoding", "Content-Transfer-Encoding"):
        if part.headers.get(name, "binary").lower() not in ("binary", "8bit", "7bit", "identity"):
            raise _field_problem(f"The field `file` must not have a {name}.")


async def _skip(part: BodyPartReader) -> None:
    total = 0
    while chunk := await part.read_chunk(CHUNK_BYTES):
        total += len(chunk)
        if total > MAX_OTHER_BYTES:
            raise _field_problem("A field other than `file` is too long.")


def _field_problem(text: str) -> Unprocessable:
    return Unprocessable(text, extra={"errors": {"file": [text]}})
