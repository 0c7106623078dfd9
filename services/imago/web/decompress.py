"""Decompress the body of a response incrementally, up to a limit."""

import zlib

_DETECT_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})


class UnsupportedEncoding(Exception):
    """A `Content-Encoding` that the request did not accept, or several of them."""


class Decompressor:
    """Collects decompressed bytes up to `limit`, and one more to detect a larger body. It stops a bomb there.

    The constructor raises UnsupportedEncoding, and `feed` raises ValueError if the bytes don't match the encoding.
    """

    def __init__(self, encoding: str, *, limit: int) -> None:
        name = encoding.strip().lower()
        if name not in _ENCODINGS:
            raise UnsupportedEncoding(name)
        self._plain = name in ("", "identity")
        self._raw_deflate_possible = name == "deflate"
        self._inflate = zlib.decompressobj(_DETECT_GZIP_OR_ZLIB)
        self._limit = limit
        self._data = bytearray()

    @property
    def exceeded(self) -> bool:
        """Whether the body is larger than the limit."""
        return len(self._data) > self._limit

    def feed(self, chunk: bytes) -> None:
        """Decompress the next bytes. Bytes beyond the limit, and after the end of the compressed data, are dropped."""
        if self._plain:
            self._data += chunk[: self._limit + 1 - len(self._data)]
            return
        while chunk and not self.exceeded and not self._inflate.eof:
            self._data += self._decompress(chunk)
            chunk = self._inflate.unconsumed_tail

    def data(self) -> bytes:
        """Return the decompressed bytes."""
        return bytes(self._data)

    def _decompress(self, chunk: bytes) -> bytes:
        room = self._limit + 1 - len(self._data)
        try:
            return self._inflate.decompress(chunk, room)
        except zlib.error as error:
            if not self._raw_deflate_possible or self._data:
                raise ValueError("invalid compressed data") from error
        # Some servers send raw `deflate` data, without the zlib header that RFC 9110 requires.
        self._raw_deflate_possible = False
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        return self._decompress(chunk)
