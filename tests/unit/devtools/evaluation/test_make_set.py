"""The set of `make evaluate`."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from devtools.evaluation.make_set import make_set
from devtools.evaluation.pages import KINDS
from imago.evaluation.labels import Labels, parse_labels
from imago.imaging.metadata.reader import read_file
from tests.support.pages import FONT

pytestmark = pytest.mark.skipif(not FONT.is_file(), reason="the font is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("evaluation")
    make_set(made)
    return made


@pytest.fixture(scope="module")
def labels(folder) -> Labels:
    return parse_labels((folder / "labels.json").read_bytes())


def test_every_image_has_labels_and_every_label_an_image(folder, labels):
    assert {path.name for path in folder.glob("*.jpg")} == set(labels.images)


def test_each_kind_of_page_has_french_and_english_text(labels):
    pages = Counter((image.kind, image.language) for image in labels.images.values() if image.text)
    assert set(pages) == {(kind, language) for kind in KINDS for language in ("fr", "en")}


def test_pages_show_their_text_within_the_image(folder, labels):
    for name, image in labels.images.items():
        if image.kind in ("clean", "two columns", "table"):
            pixels = np.asarray(Image.open(folder / name).convert("L"))
            border = np.concatenate(
                [pixels[:8].ravel(), pixels[-8:].ravel(), pixels[:, :8].ravel(), pixels[:, -8:].ravel()]
            )
            assert border.min() > 200, name
            assert pixels.min() < 100, name


def test_places_have_the_coordinates_of_their_names(folder):
    with (folder / "place-opera.jpg").open("rb") as stream:
        gps = read_file(stream).gps
    assert (gps.latitude, gps.longitude) == (pytest.approx(-33.8568, abs=1e-4), pytest.approx(151.2153, abs=1e-4))


def test_the_same_set_is_made_every_time(folder, tmp_path):
    make_set(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
