"""What decoding changes in the test process is undone after each test; in production it runs in a child process."""

import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _limit_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore Pillow's limit, which `decode_image` sets, for tests that open pictures themselves."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
