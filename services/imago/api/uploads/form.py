"""The multipart form of an upload: one field `file`, and other fields, which are ignored within limits."""

import asyncio
from dataclasses import dataclass

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy

from imago.api.uploads.deadline import UploadDeadline
from imago.api.uploads.disposition import MalformedDisposition, PartNames, parse_disposition
from imago.core.errors import Unprocessable
from imago.core.text.cleaning import clean_text

# The form parser's overhead is per chunk; with chunks of 256 KB, a file of 900 KB takes 0.26 ms.
CHUNK_BYTES = 256 * 1024

# Other fields of the form are ignored within these limits. This number of fields takes 60 ms of CPU.
MAX_OTHER_FIELDS = 256
MAX_OTHER_BYTES = 1024 * 1024

# The maximum size of all but the file: other fields, headers and boundaries.
FORM_OVERHEAD = 2 * MAX_OTHER_BYTES

# What aiohttp's form parser raises for malformed forms.
_FORM_ERRORS = (ValueError, AssertionError, RuntimeError, LookupError, HttpProcessingError)

_DISPOSITION = "Content-Disposition"
_PERCENT_ENCODING_CLIENT = "aiohttp/"
_MAX_NAMED_FIELDS = 5

_NOT_ENDED = (
    "The form ends before its closing boundary: the upload was cut off, or the form's lines do not end with CRLF."
)

_MALFORMED = "The form is malformed: it was cut off, or a boundary or header is not as the Content-Type says."


@dataclass(frozen=True)
class _Part:
    body: BodyPartReader
    names: PartNames


class UploadForm:
    """Reads a form part by part: `find_file`, then `read_chunk` until it returns nothing, then `finish`."""

    def __init__(self, request: web.Request, deadline: UploadDeadline) -> None:
        """Raise Unprocessable if the request has no form."""
        if request.content_type != "multipart/form-data":
            raise form_problem("Send a form (multipart/form-data) with a field `file`.")
        try:
            self._reader = _FormReader(request.headers, request.content)
        except _FORM_ERRORS:
            raise form_problem("The form's Content-Type has no valid `boundary`.") from None
        self._percent_encoded = _PERCENT_ENCODING_CLIENT in request.headers.get("User-Agent", "")
        self._deadline = deadline
        self._other_fields: list[str] = []
        self._other_bytes = 0
        self._file: _Part | None = None

    @property
    def filename(self) -> str | None:
        """The file's name as the client sent it, once `find_file` has returned."""
        return None if self._file is None else self._file.names.filename

    async def find_file(self) -> None:
        """Skip the fields before the file; raise Unprocessable if there is none."""
        while part := await self._next():
            if part.names.field == "file":
                _check_encoding(part.body)
                self._file = part
                return
            await self._skip(part)
        raise form_problem(_no_file(self._other_fields))

    async def read_chunk(self) -> bytes:
        """Return the next bytes of the file, or none at its end; raise Unprocessable if the form ends before."""
        if self._file is None:
            raise RuntimeError("find_file comes first")
        chunk = await self._read(self._file.body)
        if not chunk and not self._file.body.at_eof():
            raise form_problem(_NOT_ENDED)
        return chunk

    async def finish(self) -> None:
        """Read the rest of the form; raise Unprocessable if it has another file, or no end."""
        while part := await self._next():
            if part.names.field == "file":
                raise form_problem("The form has more than one field `file`; send each file in a separate request.")
            await self._skip(part)

    async def _next(self) -> _Part | None:
        try:
            async with self._deadline.waiting():
                part = await self._reader.next()
            if part is None:
                return None
            if isinstance(part, MultipartReader):
                raise form_problem("The form contains a nested form.")
            names = parse_disposition(self._reader.disposition, percent_encoded=self._percent_encoded)
        except MalformedDisposition as error:
            raise form_problem(f"The form is malformed: {error}.") from None
        except _FORM_ERRORS:
            raise form_problem(_MALFORMED) from None
        return _Part(part, names)

    async def _skip(self, part: _Part) -> None:
        self._other_fields.append(part.names.field or "")
        if len(self._other_fields) > MAX_OTHER_FIELDS:
            raise form_problem(f"The form has more than {MAX_OTHER_FIELDS} fields.")
        # Fields that have arrived are read without waiting, which would keep other requests waiting.
        await asyncio.sleep(0)
        while chunk := await self._read(part.body):
            self._other_bytes += len(chunk)
            if self._other_bytes > MAX_OTHER_BYTES:
                raise form_problem(f"The form's other fields are longer than {MAX_OTHER_BYTES} bytes.")

    async def _read(self, body: BodyPartReader) -> bytes:
        async with self._deadline.waiting():
            try:
                return bytes(await body.read_chunk(CHUNK_BYTES))
            except _FORM_ERRORS:
                raise form_problem(_NOT_ENDED) from None


class _FormReader(MultipartReader):
    """A reader of forms that doesn't interpret Content-Disposition.

    aiohttp's parser of that header changes Windows paths and refuses semicolons in names, and its reader fails on a
    field `_charset_` if the boundary has more than 28 characters.
    """

    disposition: str | None = None

    async def fetch_next_part(self) -> MultipartReader | BodyPartReader:
        """Return the next part without its Content-Disposition, which is kept in `disposition`."""
        part = await super().fetch_next_part()
        headers = CIMultiDict(part.headers)
        self.disposition = headers.pop(_DISPOSITION, None)
        part.headers = CIMultiDictProxy(headers)
        return part


def form_problem(text: str) -> Unprocessable:
    """Return the error of a form's field `file`."""
    return Unprocessable(text, extra={"errors": {"file": [text]}})


def _no_file(fields: list[str]) -> str:
    named = [f"`{clean_text(name, limit=40, lines=False)}`" for name in fields if name][:_MAX_NAMED_FIELDS]
    return f"The form has no field `file`{', but ' if named else ''}{', '.join(named)}."


def _check_encoding(part: BodyPartReader) -> None:
    # No client that sends files encodes them, and decoders would be an attack surface.
    for name in ("Content-Encoding", "Content-Transfer-Encoding"):
        if part.headers.get(name, "binary").lower() not in ("binary", "8bit", "7bit", "identity"):
            raise form_problem(f"The field `file` must not have a {name}.")
