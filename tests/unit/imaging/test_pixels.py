"""What decoders raise on broken files is one kind of failure, whatever they raise."""

import contextlib
from pathlib import Path

import pytest
from tests.support.images import encoded

from imago.domain.failures import PermanentFailure
from imago.imaging.pixels import open_image, shrink


@pytest.mark.parametrize("kind", ["avif", "heic", "jpeg", "png", "webp", "tiff"])
def test_a_file_whose_picture_was_overwritten_is_no_internal_error(kind: str, tmp_path: Path) -> None:
    data = bytearray(encoded(kind))
    middle = len(data) // 2
    data[middle:] = bytes(len(data) - middle)
    path = tmp_path / "broken"
    path.write_bytes(data)
    # Some decoders forgive it; whoever doesn't must say so in one of two ways.
    with contextlib.suppress(PermanentFailure), open_image(path, max_pixels=1_000_000) as image:
        shrink(image, 64)


def test_what_libavif_raises_is_an_undecodable_image(tmp_path: Path) -> None:
    data = encoded("avif")
    picture = data.index(b"mdat") + 4
    path = tmp_path / "broken.avif"
    path.write_bytes(data[:picture] + bytes(len(data) - picture))
    with pytest.raises(PermanentFailure) as raised, open_image(path, max_pixels=1_000_000) as image:
        shrink(image, 64)
    assert raised.value.code == "undecodable-image"
    assert isinstance(raised.value.__cause__, RuntimeError), "another kind of error than the one this test is about"
