"""The object detector on real photographs, and that a wrong conversion is noticed."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from devtools.photos import ASTRONAUT, CAT
from imago.ai.offline.models import nanodet
from imago.ai.offline.models.store import find_detector
from imago.ai.offline.vision.classifier import open_session
from imago.ai.offline.vision.detector import Detection, Detector
from imago.core.images.recognition.concepts import KINDS, vocabulary
from imago.runtime.startup import StartupError


@pytest.fixture(scope="module")
def model() -> Path:
    found = find_detector(None)
    if found is None:
        pytest.skip("no object detector; `make setup` builds it")
    return found


def detect(model: Path, photo: Path) -> list[Detection]:
    with Image.open(photo) as opened:
        return [each for each in Detector(open_session(model)).detect(opened.convert("RGB")) if each.score >= 0.35]


def test_a_person_is_found_where_they_are(model: Path) -> None:
    best = max(detect(model, ASTRONAUT), key=lambda each: each.score)
    assert vocabulary()[KINDS[best.kind]].english == "person"
    assert best.score > 0.6
    # The astronaut fills most of the picture.
    assert best.area > 0.4
    assert 0 <= best.left < best.right <= 1


def test_each_object_is_found_once(model: Path) -> None:
    found = detect(model, CAT)
    for one in found:
        assert all(one.overlap(other) < 0.5 for other in found if other is not one and other.kind == one.kind)


def test_the_built_model_passes_its_check(model: Path) -> None:
    nanodet.verify(model.read_bytes())


@pytest.mark.parametrize(("name", "value"), [("bgr", [0, 1, 2]), ("deviation", [255.0, 255.0, 255.0])])
def test_a_model_with_swapped_channels_or_another_normalization_is_refused(
    model: Path, name: str, value: list[float]
) -> None:
    wrong = onnx.load_from_string(model.read_bytes())
    constant = next(each for each in wrong.graph.initializer if each.name == name)
    array = numpy_helper.to_array(constant)
    constant.CopyFrom(numpy_helper.from_array(np.array(value, array.dtype).reshape(array.shape), name))
    with pytest.raises(StartupError, match="built incorrectly"):
        nanodet.verify(wrong.SerializeToString())
