"""Reading text with Tesseract: tesserocr with its engine kept open, or pytesseract with a process per page.

Both run one thread: several threads make Tesseract slower in CPU and no faster on a busy machine (FACTS: 381 ms with
one thread, 1636 ms by default).
"""

import os
import shutil
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

# Before the library that reads it is loaded.
os.environ.setdefault("OMP_THREAD_LIMIT", "1")

from imago.core.images.ocr_result import Word, reading_of
from imago.core.images.results import OcrReading
from imago.core.jobs.failures import PermanentFailure, TransientFailure
from imago.imaging.languages import language_of

# Where Debian, Homebrew and the usual builds put the trained data.
_TESSDATA = (
    "/usr/share/tesseract-ocr/5/tessdata",
    "/usr/share/tesseract-ocr/4.00/tessdata",
    "/usr/share/tessdata",
    "/usr/local/share/tessdata",
    "/opt/homebrew/share/tessdata",
)

# An engine with its languages takes 60 to 100 MB and 160 ms to load; clients differ in their languages.
_OPEN_ENGINES = 3

# Tesseract wants an idea of the resolution to tell text from noise; photos don't say, scans mostly have about this.
_DPI = 300

# Half scale pays from so many pixels on, and costs no error where no line of the half image is lower than this: letters
# of some 32 px. Lines below the second height are specks, or too small for any scale (docs/performance.md).
_HALVED_PIXELS = 1_500_000
_LEAST_LINE = 15
_SPECK = 5


def read_text(
    page: Path, *, languages: tuple[str, ...], engine: str, tessdata_dir: str | None, half_scale: bool = False
) -> OcrReading:
    """Read a gray, upright page; `languages` are Tesseract's names, such as `fra`.

    With `half_scale`, tesserocr reads pages whose letters are all large at half their size.

    Raises PermanentFailure with `ocr-language-missing` or `ocr-engine-missing` where the server lacks something, and
    TransientFailure where the engine failed over the page.
    """
    data = tessdata(tessdata_dir)
    missing = sorted(set(languages) - set(available_languages(data)))
    if missing:
        raise PermanentFailure("ocr-language-missing", f"This server can't read the language {missing[0]}.")
    if engine == "tesserocr":
        words = _read_with_tesserocr(page, languages, data, half_scale=half_scale)
    else:
        words = _read_with_pytesseract(page, languages, data)
    return reading_of(words, engine=engine, language_of=lambda text: language_of(text, languages))


def tessdata(directory: str | None) -> Path:
    """Return the folder of the trained data: the setting's, TESSDATA_PREFIX, or a usual place."""
    candidates = [directory, os.environ.get("TESSDATA_PREFIX"), *_TESSDATA]
    for candidate in candidates:
        if candidate and any(Path(candidate).glob("*.traineddata")):
            return Path(candidate)
    raise PermanentFailure("ocr-engine-missing", "Tesseract's language data is not installed on this server.")


def available_languages(data: Path) -> tuple[str, ...]:
    """Return the languages whose trained data lies in the folder."""
    return tuple(sorted(path.stem for path in data.glob("*.traineddata")))


def _read_with_tesserocr(page: Path, languages: tuple[str, ...], data: Path, *, half_scale: bool) -> list[Word]:
    import tesserocr

    api = _engine("+".join(languages), str(data))
    try:
        with Image.open(page) as image:
            if not (half_scale and halved(api, image)):
                api.SetImage(image)
                api.SetSourceResolution(_DPI)
        if not api.Recognize():
            raise TransientFailure("ocr-failed", "The text engine gave the page up.")
        return list(_words(api, tesserocr))
    finally:
        api.Clear()


def halved(api: Any, image: Image.Image) -> bool:
    """Give an engine the image at half scale, and tell whether every letter is large enough to be read so.

    Only where lines lie is looked for, which takes a tenth of the time of reading them.
    """
    import tesserocr

    if image.width * image.height < _HALVED_PIXELS:
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
    return min((height for height in heights if height >= _SPECK), default=0) >= _LEAST_LINE


def _words(api: Any, tesserocr: Any) -> Iterable[Word]:
    iterator = api.GetIterator()
    level = tesserocr.RIL
    if iterator is None:
        return
    while True:
        text = "" if iterator.Empty(level.WORD) else iterator.GetUTF8Text(level.WORD).strip()
        if text:
            # The engine speaks of a line's first word only; paragraphs are told by their first line.
            start = iterator.IsAtBeginningOf(level.TEXTLINE)
            yield Word(
                text,
                iterator.Confidence(level.WORD) / 100,
                starts_line=start,
                starts_paragraph=start and iterator.IsAtBeginningOf(level.PARA),
            )
        if not iterator.Next(level.WORD):
            return


@lru_cache(maxsize=_OPEN_ENGINES)
def _engine(languages: str, data: str) -> Any:
    import tesserocr

    return tesserocr.PyTessBaseAPI(path=data + "/", lang=languages, psm=tesserocr.PSM.AUTO)


def _read_with_pytesseract(page: Path, languages: tuple[str, ...], data: Path) -> list[Word]:
    import pytesseract

    if shutil.which("tesseract") is None:
        raise PermanentFailure("ocr-engine-missing", "The command `tesseract` is not installed on this server.")
    # A path, not an image: pytesseract would encode the image anew. One call for words and confidences (FACTS).
    table = pytesseract.image_to_data(
        str(page),
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
        here = tuple(table[name][index] for name in ("block_num", "par_num", "line_num"))
        words.append(
            Word(text.strip(), confidence / 100, starts_line=here != line, starts_paragraph=here[:2] != paragraph)
        )
        line, paragraph = here, here[:2]
    return words
