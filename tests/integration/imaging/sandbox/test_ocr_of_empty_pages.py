"""Tesseract reports pages without text, which must not crash the confined child."""

from pathlib import Path

import pytest
from PIL import Image

from imago.imaging.sandbox.pool import ChildPool


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (800, 600)])
async def test_a_page_without_text_has_no_words(tmp_path: Path, size: tuple[int, int]) -> None:
    source, page = tmp_path / "source.png", tmp_path / "page"
    Image.new("RGBA", size, (200, 30, 30, 255)).save(source)
    children = ChildPool(size=1, memory_mb=2048, cpu_seconds=60)
    arguments = {"languages": ["eng"], "engine": "tesserocr", "tessdata_dir": None, "max_pixels": 10**7}
    try:
        reading = await children.run("ocr", arguments, timeout=60, reads={"source": source}, writes={"page": page})
    finally:
        await children.close()
    chosen = reading["result"]["chosen"]
    assert (chosen["has_text"], chosen["text"]) == (False, "")
