"""Receiving an upload's file: streamed to storage while it is counted and hashed, with deadlines for slow senders."""

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

# One hop of the parser per chunk: 256 KB costs 0.26 ms for 900 KB (FACTS).
CHUNK = 256 * 1024

# A form may hold small fields beside the file; they are passed over.
MAX_OTHER_FIELDS = 16
MAX_OTHER_BYTES = 64 * 1024

# The parts' headers and boundaries, beside the file itself.
FORM_OVERHEAD = 64 * 1024

# What aiohttp's parser of forms raises on malformed ones.
_BAD_FORM = (ValueError, AssertionError, RuntimeError, LookupError, HttpProcessingError)

# A sender gets this long to come up to speed.
RATE_GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Received:
    """A file that was received whole."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class FilePart:
    """The part of the form that holds the file, still to be read."""

    part: BodyPartReader
    filename: str | None


class Discarding:
    """An `ObjectWriter` that keeps nothing: for uploads that are only hashed, to be compared with an earlier one."""

    async def write(self, chunk: bytes) -> None:
        """Drop the bytes."""

    async def commit(self) -> None:
        """Do nothing."""


class Sender:
    """The patience with one sender: how long a pause may be, and how long all the waiting for its bytes together.

    Time that our own storage takes is not the sender's, and has deadlines of its own.
    """

    def __init__(self, settings: Settings) -> None:
        self._idle = settings.upload_idle_timeout
        self._total = settings.upload_total_timeout
        self._least_rate = settings.upload_min_rate
        self._waited = 0.0

    @asynccontextmanager
    async def awaited(self) -> AsyncIterator[None]:
        """Bound one wait for bytes; raise RequestTimeout, and Unprocessable for a body that broke off."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(self._idle, self._total - self._waited))):
                yield
        except TimeoutError:
            raise RequestTimeout("The upload took too long or stood still.") from None
        except ClientPayloadError:
            raise Unprocessable("The body broke off.") from None
        finally:
            self._waited += time.monotonic() - began

    def check_rate(self, size: int) -> None:
        """Raise RequestTimeout where the bytes came too slowly on average."""
        if self._waited > RATE_GRACE_SECONDS and size / self._waited < self._least_rate:
            raise RequestTimeout("The upload is too slow.")


async def find_file(request: web.Request, settings: Settings, sender: Sender) -> FilePart:
    """Return the form's part named `file`; raise Unprocessable where there is none, and TooLarge early."""
    length = request.content_length
    if length is not None and length > settings.max_upload_bytes + FORM_OVERHEAD:
        raise too_large(settings)
    if request.content_type != "multipart/form-data":
        raise _field_problem("Send a form (multipart/form-data) with a field `file`.")
    try:
        form = await request.multipart()
        for _ in range(MAX_OTHER_FIELDS):
            async with sender.awaited():
                part = await form.next()
                if part is None:
                    break
                if isinstance(part, MultipartReader):
                    raise _field_problem("The form has a form inside.")
                # Once for both: the part's own `name` and `filename` parse the header each, at 0.04 ms.
                _, named = parse_content_disposition(part.headers.get("Content-Disposition"))
                if content_disposition_filename(named, "name") == "file":
                    _check_encoding(part)
                    return FilePart(part, content_disposition_filename(named, "filename"))
                await _skip(part)
    except _BAD_FORM:
        raise _field_problem("The form can't be read.") from None
    raise _field_problem("The form has no field `file`.")


async def receive(file: FilePart, writer: ObjectWriter, settings: Settings, sender: Sender) -> Received:
    """Stream the file to storage; raise TooLarge as soon as the limit is passed, EmptyFile, UnsupportedMediaType.

    What is no image of ours is refused after its first bytes. Raises RequestTimeout for a sender that stands still or
    falls below the least rate.
    """
    digest = hashlib.sha256()
    size = 0
    while True:
        async with sender.awaited():
            try:
                chunk = await file.part.read_chunk(CHUNK)
            except _BAD_FORM:
                raise _field_problem("The form can't be read.") from None
        if not chunk:
            break
        if size == 0 and len(chunk) >= 256 and sniff(chunk[:256]) is None:
            raise UnsupportedMediaType("The file is none of JPEG, PNG, GIF, WebP, TIFF, BMP, HEIC and AVIF.")
        size += len(chunk)
        if size > settings.max_upload_bytes:
            raise too_large(settings)
        # 0.14 ms a chunk; a hop to a thread costs about the same.
        digest.update(chunk)
        await writer.write(bytes(chunk))
        failpoints.reach("upload.streaming")
        sender.check_rate(size)
    if size == 0:
        raise EmptyFile("The file has no bytes.")
    return Received(size, digest.hexdigest())


def too_large(settings: Settings) -> TooLarge:
    """Build the refusal of a file over the limit."""
    return TooLarge(
        f"The file is larger than {settings.max_upload_size_mb} MB.",
        extra={"max_upload_size_bytes": settings.max_upload_bytes},
    )


def _check_encoding(part: BodyPartReader) -> None:
    # A part may ask to be decoded; nothing that sends files does, and a decoder would be one more thing to attack.
    for name in ("Content-Encoding", "Content-Transfer-Encoding"):
        if part.headers.get(name, "binary").lower() not in ("binary", "8bit", "7bit", "identity"):
            raise _field_problem(f"The field `file` must not have a {name}.")


async def _skip(part: BodyPartReader) -> None:
    total = 0
    while chunk := await part.read_chunk(CHUNK):
        total += len(chunk)
        if total > MAX_OTHER_BYTES:
            raise _field_problem("A field beside `file` is too long.")


def _field_problem(text: str) -> Unprocessable:
    return Unprocessable(text, extra={"errors": {"file": [text]}})
