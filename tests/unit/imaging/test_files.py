"""A task reads and writes open files as well as paths."""

import io
from pathlib import Path

import pytest
from PIL import Image

from imago.imaging.sandbox import tasks
from tests.support.images import FORMATS, encoded, picture

PIXELS = 1_000_000


@pytest.mark.parametrize("kind", FORMATS)
def test_open_files_give_the_same_results_as_paths(tmp_path: Path, kind: str) -> None:
    data = encoded(kind, picture(60, 40))
    (tmp_path / "source").write_bytes(data)
    target = io.BytesIO()
    options = {"size": 30, "format": "webp", "max_pixels": PIXELS}
    by_path = tasks.thumbnail(source=str(tmp_path / "source"), target=str(tmp_path / "target"), **options)
    by_file = tasks.thumbnail(source=io.BytesIO(data), target=target, **options)
    assert (by_file, target.getvalue()) == (by_path, (tmp_path / "target").read_bytes())


def test_an_open_page_is_encoded_for_a_provider() -> None:
    page, target = io.BytesIO(), io.BytesIO()
    Image.new("L", (80, 40), 200).save(page, "PPM")
    tasks.page_for_provider(page=page, target=target, max_side=40)
    with Image.open(target) as image:
        assert (image.format, image.size) == ("JPEG", (40, 20))
