"""Read text with Tesseract: by tesserocr, which keeps its engine open, or by pytesseract, with a process per page.

Both use one thread: with Tesseract's default a page took 1636 ms instead of 381 ms.
"""

import os
import shutil
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

# Tesseract's library reads it when it is loaded.
os.environ.setdefault("OMP_THREAD_LIMIT", "1")

from imago.core.images.ocr.result import Box, RecognizedWord
from imago.core.jobs.failures import PermanentFailure, TransientFailure
from imago.imaging.cpu_limit import cpu_limit
from imago.imaging.ocr.options import OcrOptions
from imago.imaging.ocr.trained_data import available_languages, tessdata

# An engine with its languages takes 60 to 100 MB, and 160 ms to load. Clients differ in their languages.
_OPEN_ENGINES = 3

# Tesseract uses the resolution to distinguish text from noise. Photos don't have one, and most scans have about this.
_DPI = 300

# Finding the lines of a page takes a tenth of the time of reading them: up to 0.2 s of CPU a megapixel for dense pages,
# and 0.8 s for pure noise. Patterns such as diagonal stripes take minutes.
_LAYOUT_CPU = 2.0
_LAYOUT_CPU_PER_MEGAPIXEL = 1.25

# Half scale saves time from this number of pixels on, and costs no accuracy if no line of the half image is lower than
# `_MIN_LINE_HEIGHT` (letters of some 32 px). Lines below `_SPECK_HEIGHT` are specks, or too small at any scale
# (docs/performance.md).
_MIN_PIXELS_TO_HALVE = 1_500_000
_MIN_LINE_HEIGHT = 15
_SPECK_HEIGHT = 5


def read_words(page: Image.Image, options: OcrOptions) -> list[RecognizedWord]:
    """Read the words of a gray, upright page, with their boxes in its pixels.

    Raises PermanentFailure with `ocr-language-missing` or `ocr-engine-missing` if the server lacks one, and
    TransientFailure if the engine fails on the page.
    """
    data = tessdata(options.tessdata_dir)
    missing = sorted(set(options.languages) - set(available_languages(data)))
    if missing:
        available = ", ".join(available_languages(data))
        raise PermanentFailure(
            "ocr-language-missing", f"This server can't read the language {missing[0]}; it has {available}."
        )
    if options.engine == "pytesseract":
        return _read_with_pytesseract(page, options.languages, data)
    return _read_with_tesserocr(page, options.languages, data, half_scale=options.half_scale)


def _read_with_tesserocr(
    image: Image.Image, languages: tuple[str, ...], data: Path, *, half_scale: bool
) -> list[RecognizedWord]:
    import tesserocr

    api = _engine("+".join(languages), str(data))
    try:
        with cpu_limit(_LAYOUT_CPU + image.width * image.height / 1e6 * _LAYOUT_CPU_PER_MEGAPIXEL):
            is_halved = half_scale and set_halved_image(api, image)
            if not is_halved:
                api.SetImage(image)
                api.SetSourceResolution(_DPI)
                # `Recognize` would do it, too, and does not do it again.
                api.AnalyseLayout()
        if not api.Recognize():
            raise TransientFailure("ocr-failed", "The text engine failed on the page.")
        return list(_recognized_words(api, tesserocr, scale=2 if is_halved else 1))
    finally:
        api.Clear()


def set_halved_image(api: Any, image: Image.Image) -> bool:
    """Set an engine's image to the half-scale one, and return whether all its letters are large enough to be read.

    This only detects lines, which takes a tenth of the time of reading them.
    """
    import tesserocr

    if image.width * image.height < _MIN_PIXELS_TO_HALVE:
        return False
    api.SetImage(image.reduce(2))
    api.SetSourceResolution(_DPI)
    lines = api.AnalyseLayout()
    heights = []
    while lines is not None:
        box = lines.BoundingBox(tesserocr.RIL.TEXTLINE)
        if box is not None:
            heights.append(box[3] - box[1])
        if not lines.Next(tesserocr.RIL.TEXTLINE):
            break
    return min((height for height in heights if height >= _SPECK_HEIGHT), default=0) >= _MIN_LINE_HEIGHT


def _recognized_words(api: Any, tesserocr: Any, *, scale: int) -> Iterable[RecognizedWord]:
    iterator = api.GetIterator()
    level = tesserocr.RIL
    if iterator is None:
        return
    while True:
        text = "" if iterator.Empty(level.WORD) else iterator.GetUTF8Text(level.WORD).strip()
        if text:
            # A paragraph can only begin where a line does.
            starts_line = iterator.IsAtBeginningOf(level.TEXTLINE)
            yield RecognizedWord(
                text,
                iterator.Confidence(level.WORD) / 100,
                starts_line=starts_line,
                starts_paragraph=starts_line and iterator.IsAtBeginningOf(level.PARA),
                box=tuple(scale * side for side in iterator.BoundingBox(level.WORD)),
            )
        if not iterator.Next(level.WORD):
            return


@lru_cache(maxsize=_OPEN_ENGINES)
def _engine(languages: str, data: str) -> Any:
    import tesserocr

    api = tesserocr.PyTessBaseAPI(path=data + "/", lang=languages, psm=tesserocr.PSM.AUTO)
    # Messages go to standard error, which is captured. The package's default is /dev/null, which a confined child can't
    # open, and Tesseract crashes when it then reports that a page is empty.
    api.SetVariable("debug_file", "")
    return api


def _read_with_pytesseract(image: Image.Image, languages: tuple[str, ...], data: Path) -> list[RecognizedWord]:
    import pytesseract

    if shutil.which("tesseract") is None:
        raise PermanentFailure("ocr-engine-missing", "The command `tesseract` is not installed on this server.")
    # pytesseract writes an opened PGM as it is. One call for words and confidences.
    table = pytesseract.image_to_data(
        image,
        lang="+".join(languages),
        config=f'--tessdata-dir "{data}" --dpi {_DPI}',
        output_type=pytesseract.Output.DICT,
    )
    words = []
    line, paragraph = None, None
    for index, text in enumerate(table["text"]):
        confidence = float(table["conf"][index])
        if confidence < 0 or not text.strip():
            continue
        position = tuple(table[name][index] for name in ("block_num", "par_num", "line_num"))
        words.append(
            RecognizedWord(
                text.strip(),
                confidence / 100,
                starts_line=position != line,
                starts_paragraph=position[:2] != paragraph,
                box=_box_of_row(table, index),
            )
        )
        line, paragraph = position, position[:2]
    return words


def _box_of_row(table: dict[str, list[int]], index: int) -> Box:
    left, top, width, height = (table[name][index] for name in ("left", "top", "width", "height"))
    return left, top, left + width, top + height
