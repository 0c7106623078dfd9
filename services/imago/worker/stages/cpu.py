"""How much CPU time the tasks of an image may take: a file that needs more is a bomb, whatever its size in bytes.

Dense pages of small type took up to 1.2 s a megapixel, and photos of 12 megapixels up to 0.07 s, on a busy machine
(docs/performance.md). The limits are more than four times that.
"""

from imago.core.images.ocr.result import OCR_SIDE
from imago.core.jobs.claims import Claim
from imago.imaging.ocr.options import WITHOUT_DETECTOR
from imago.settings import Settings

# A task loads its libraries and models within this.
_CPU_OF_EVERY_TASK = 5.0
# Finding lines and reading them with PP-OCRv6 takes up to 3 s a page; `imaging/ocr/paddle.py` stops after 12 s.
_CPU_OF_LINES = 20.0
# A model of a gigabyte is opened within 5 s, by the first task; vectors of the largest ones take up to 3 s.
_CPU_OF_EMBEDDING = 20.0


def cpu_to_decode(pixels: int, settings: Settings) -> float:
    """Return the CPU seconds to decode and scale an image of a number of pixels."""
    return _CPU_OF_EVERY_TASK + pixels / 1e6 * settings.decode_cpu_per_megapixel


def cpu_to_embed(pixels: int, settings: Settings) -> float:
    """Return the CPU seconds to decode and embed an image of a number of pixels."""
    return cpu_to_decode(pixels, settings) + _CPU_OF_EMBEDDING


def cpu_to_read(claim: Claim, settings: Settings) -> float:
    """Return the CPU seconds to decode and read all pages of an image."""
    page = min(claim.pixels, OCR_SIDE**2) / 1e6
    pages = min(claim.frames, settings.ocr_max_pages)
    per_page = cpu_to_decode(claim.pixels, settings) + page * settings.ocr_cpu_per_megapixel
    return pages * (per_page + (0 if settings.ocr_engine in WITHOUT_DETECTOR else _CPU_OF_LINES))
