"""Every task works in a confined child process, for every format and engine."""

import importlib.util
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from imago.imaging.sandbox.pool import ChildPool
from imago.web.pages import EXTRACT_FUNCTION, EXTRACT_TASK
from tests.support.images import FORMATS, encoded, picture

PIXELS = 50_000_000


@pytest.fixture
async def pool() -> AsyncIterator[ChildPool]:
    command = shutil.which("tesseract")
    children = ChildPool(
        size=1,
        memory_mb=2048,
        cpu_seconds=120,
        extra_tasks=(f"{EXTRACT_TASK}={EXTRACT_FUNCTION}",),
        command=Path(command) if command else None,
    )
    yield children
    await children.close()


@pytest.fixture
async def strict_pool() -> AsyncIterator[ChildPool]:
    """A pool whose children start no programs."""
    children = ChildPool(size=1, memory_mb=2048, cpu_seconds=120)
    yield children
    await children.close()


def page(folder: Path) -> Path:
    image = Image.new("RGB", (900, 200), "white")
    text = ImageDraw.Draw(image)
    text.text((40, 60), "Invoice number 48213", fill="black", font=ImageFont.load_default(64))
    image.save(folder / "page.png")
    return folder / "page.png"


def ocr_arguments(engine: str) -> dict[str, object]:
    return {"languages": ["eng"], "engine": engine, "tessdata_dir": None, "max_pixels": PIXELS}


async def test_thumbnails_and_inputs_of_vision_in_all_formats(strict_pool: ChildPool, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for kind in FORMATS:
        source.write_bytes(encoded(kind, picture(300, 200)))
        files = {"reads": {"source": source}, "writes": {"target": target}}
        made = await strict_pool.run(
            "thumbnail", {"size": 100, "format": "webp", "max_pixels": PIXELS}, timeout=60, **files
        )
        assert (made["width"], made["height"], made["size_bytes"]) == (100, 67, target.stat().st_size), kind
        prepared = await strict_pool.run(
            "prepare_for_vision", {"max_side": 64, "max_pixels": PIXELS}, timeout=60, **files
        )
        assert (prepared["width"], prepared["height"]) == (300, 200), kind
        with Image.open(target) as image:
            assert image.size == (64, 43), kind


async def test_a_shorter_result_leaves_nothing_of_a_longer_one(strict_pool: ChildPool, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.write_bytes(bytes(2**20))
    source.write_bytes(encoded("jpeg", picture(30, 20)))
    arguments = {"size": 16, "format": "webp", "max_pixels": PIXELS}
    made = await strict_pool.run(
        "thumbnail", arguments, timeout=60, reads={"source": source}, writes={"target": target}
    )
    assert target.stat().st_size == made["size_bytes"]


@pytest.mark.skipif(importlib.util.find_spec("tesserocr") is None, reason="tesserocr is not installed")
@pytest.mark.parametrize("engine", ["auto", "tesserocr", "rapidocr"])
async def test_text_is_read_and_its_page_encoded(strict_pool: ChildPool, tmp_path: Path, engine: str) -> None:
    prepared, jpeg = tmp_path / "page.pgm", tmp_path / "page.jpg"
    reading = await strict_pool.run(
        "ocr", ocr_arguments(engine), timeout=120, reads={"source": page(tmp_path)}, writes={"page": prepared}
    )
    assert "48213" in reading["result"]["chosen"]["text"]
    await strict_pool.run(
        "page_for_provider", {"max_side": 90}, timeout=60, reads={"page": prepared}, writes={"target": jpeg}
    )
    with Image.open(jpeg) as image:
        assert image.size == (90, 20)


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="the command tesseract is not installed")
async def test_text_is_read_by_the_command(pool: ChildPool, tmp_path: Path) -> None:
    reading = await pool.run(
        "ocr",
        ocr_arguments("pytesseract"),
        timeout=120,
        reads={"source": page(tmp_path)},
        writes={"page": tmp_path / "page.pgm"},
    )
    assert "48213" in reading["result"]["chosen"]["text"]


@pytest.mark.skipif(importlib.util.find_spec("rapidocr") is None, reason="rapidocr is not installed")
async def test_text_is_read_by_the_second_engine(strict_pool: ChildPool, tmp_path: Path) -> None:
    prepared = tmp_path / "page.pgm"
    with Image.open(page(tmp_path)) as image:
        image.convert("L").save(prepared, "PPM")
    reading = await strict_pool.run("ocr_fallback", {"languages": ["eng"]}, timeout=120, reads={"page": prepared})
    assert "48213" in reading["text"]


async def test_the_text_of_a_web_page_is_extracted(pool: ChildPool, tmp_path: Path) -> None:
    source = tmp_path / "page.html"
    source.write_text(f"<html lang=en><title>News</title><body><p>{'A sentence about the weather. ' * 20}</p></body>")
    extracted = await pool.run(
        EXTRACT_TASK, {"content_type": "text/html", "charset": "utf-8"}, timeout=60, reads={"source": source}
    )
    assert (extracted["title"], extracted["language"]) == ("News", "en")
