"""The task of a child process that embeds images."""

import base64
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from imago.embedding.model import VISUAL, EmbeddingModel
from imago.embedding.sessions import open_part, run_part, unusable
from imago.imaging.pixels.colour import flatten
from imago.imaging.pixels.decode import decode_image

EMBED_IMAGE_TASK = "embed_image"
EMBED_IMAGE_FUNCTION = "imago.embedding.images:embed_image"

# Twice the largest square that models take.
_DECODED_SIDE = 2048


def embed_image(*, source: str | BinaryIO, model: dict[str, Any], max_pixels: int) -> dict[str, Any]:
    """Return the vector of an image, float16 in Base64, and whether its file ends before its pixels do."""
    import numpy as np

    used = EmbeddingModel.from_arguments(model)
    file = Path(source) if isinstance(source, str) else source
    decoded = decode_image(file, max_side=_DECODED_SIDE, max_pixels=max_pixels)
    session = open_part(used.directory / VISUAL)
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise unusable(f"{VISUAL}: one input is expected, the pixels")
    pixels = _pixels(flatten(decoded.image), used)
    vector = run_part(session, {inputs[0].name: pixels}, model=used, name=VISUAL)
    return {"vector": base64.b64encode(vector.astype(np.float16).tobytes()).decode(), "truncated": decoded.truncated}


def _pixels(image: Image.Image, model: EmbeddingModel) -> Any:
    """Return the pixels as the model takes them: [1, 3, side, side], float32."""
    import numpy as np

    config = model.config
    square = _square(image.convert("RGB"), config.image_side, crop=config.image_fit == "crop")
    values = np.asarray(square, dtype=np.float32) / 255.0
    normalized = (values - np.array(config.image_mean, np.float32)) / np.array(config.image_std, np.float32)
    return normalized.transpose(2, 0, 1)[None]


def _square(image: Image.Image, side: int, *, crop: bool) -> Image.Image:
    if not crop:
        return image.resize((side, side), Image.Resampling.BICUBIC)
    edge = min(image.size)
    left, top = (image.width - edge) / 2, (image.height - edge) / 2
    return image.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + edge, top + edge))
