"""Decompression stays within its limit, whatever the chunks of the body are."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imago.web.decompress import Decompressor, UnsupportedEncoding


@given(data=st.binary(max_size=5000), size=st.integers(2, 700), limit=st.integers(0, 6000))
def test_a_body_within_the_limit_is_complete_and_a_larger_one_has_one_byte_more_than_the_limit(
    data: bytes, size: int, limit: int
) -> None:
    for encoding, compressed in (("", data), ("gzip", gzip.compress(data)), ("deflate", zlib.compress(data))):
        decompressor = Decompressor(encoding, limit=limit)
        for start in range(0, len(compressed), size):
            decompressor.feed(compressed[start : start + size])
        assert decompressor.exceeded == (len(data) > limit)
        assert decompressor.data() == data[: limit + 1]


def test_a_bomb_uses_little_more_memory_than_the_limit() -> None:
    bomb = gzip.compress(bytes(200 * 2**20))
    decompressor = Decompressor("gzip", limit=2**20)
    tracemalloc.start()
    decompressor.feed(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert decompressor.exceeded
    assert peak < 8 * 2**20, f"{peak / 2**20:.1f} MiB were used for a limit of 1 MiB"


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, deflate", "x-unknown"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(UnsupportedEncoding):
        Decompressor(encoding, limit=10)


def test_invalid_data_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="invalid"):
        Decompressor("gzip", limit=10).feed(b"no gzip at all")
