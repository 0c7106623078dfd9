"""Decompresses the body of an answer piece by piece, never beyond a limit."""

import zlib

_AUTOMATIC_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})


class UnknownEncoding(Exception):
    """A `Content-Encoding` that wasn't asked for, or several on top of each other."""


class Decompressor:
    """Collects at most `limit` decompressed bytes; a bomb is stopped there, whatever is left of it.

    Raises UnknownEncoding at once, and `zlib.error` as a ValueError where the bytes aren't what the header says.
    """

    def __init__(self, encoding: str, *, limit: int) -> None:
        name = encoding.strip().lower()
        if name not in _ENCODINGS:
            raise UnknownEncoding(name)
        self._plain = name in ("", "identity")
        self._raw_deflate_possible = name == "deflate"
        self._inflate = zlib.decompressobj(_AUTOMATIC_GZIP_OR_ZLIB)
        self._limit = limit
        self._data = bytearray()

    @property
    def full(self) -> bool:
        """Whether there is more than the limit."""
        return len(self._data) > self._limit

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes; those beyond the limit, and behind the compressed data's end, are dropped."""
        if self._plain:
            self._data += chunk[: self._limit + 1 - len(self._data)]
            return
        while chunk and not self.full and not self._inflate.eof:
            self._data += self._some(chunk)
            chunk = self._inflate.unconsumed_tail

    def data(self) -> bytes:
        """Return what was collected."""
        return bytes(self._data)

    def _some(self, chunk: bytes) -> bytes:
        room = self._limit + 1 - len(self._data)
        try:
            return self._inflate.decompress(chunk, room)
        except zlib.error as error:
            if not self._raw_deflate_possible or self._data:
                raise ValueError("damaged compression") from error
        # Some servers send `deflate` without the header that RFC 9110 asks for.
        self._raw_deflate_possible = False
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        return self._some(chunk)
