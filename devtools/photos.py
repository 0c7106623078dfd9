"""Real photographs for tests: from installed packages, and from the corpus if it is present."""

import os
from pathlib import Path

import pytest
import skimage
import sklearn

ROOT = Path(__file__).resolve().parents[1]
SKIMAGE = Path(skimage.__file__).parent / "data"
SKLEARN = Path(sklearn.__file__).parent / "datasets" / "images"

CAT = SKIMAGE / "chelsea.png"
COFFEE = SKIMAGE / "coffee.png"
ROCKET = SKIMAGE / "rocket.jpg"
ASTRONAUT = SKIMAGE / "astronaut.png"
CHINA = SKLEARN / "china.jpg"
FLOWER = SKLEARN / "flower.jpg"

PACKAGED = (CAT, COFFEE, ROCKET, ASTRONAUT, CHINA, FLOWER)


def corpus() -> Path:
    """Return the folder of camera files; skip the test if it is missing."""
    folder = Path(os.environ.get("IMAGO_TEST_CORPUS") or ROOT.parent / "shared" / "corpus")
    if not folder.is_dir():
        pytest.skip("no corpus of camera files: name its folder in IMAGO_TEST_CORPUS")
    return folder / "exif-samples"


def corpus_files(*patterns: str) -> list[Path]:
    """Return the files of the corpus that match the patterns."""
    return sorted(path for pattern in patterns for path in corpus().glob(pattern) if path.is_file())
