"""The directory of an embedding model: what is wrong with it is said in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from imago.embedding.model import TEXTUAL, TOKENIZER, VISUAL, load_model
from imago.runtime.startup import StartupError
from tests.support.embedding_model import write_model


def test_a_model_is_loaded_with_its_checksums(tmp_path: Path) -> None:
    model = load_model(write_model(tmp_path), checked=(VISUAL, TEXTUAL, TOKENIZER))
    assert (model.config.name, model.config.dims) == ("three-colours", 8)


def test_the_fingerprint_changes_with_what_vectors_depend_on(tmp_path: Path) -> None:
    def fingerprint(**config: Any) -> str:
        return load_model(write_model(tmp_path, **config), checked=()).fingerprint

    assert fingerprint() == fingerprint(name="other", min_margin=0.5)
    others = [fingerprint(image_side=32), fingerprint(image_fit="crop"), fingerprint(image_mean=[0.5, 0.5, 0.5])]
    assert len({fingerprint(), *others}) == 4


@pytest.mark.parametrize("name", [VISUAL, TEXTUAL, TOKENIZER, "config.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (write_model(tmp_path) / name).unlink()
    with pytest.raises(StartupError, match=rf"^EMBED_MODEL_DIR: \S*{name}: [^\n]+$"):
        load_model(tmp_path, checked=())


@pytest.mark.parametrize("name", [VISUAL, TEXTUAL, TOKENIZER])
def test_a_file_with_another_checksum_is_named(tmp_path: Path, name: str) -> None:
    with (write_model(tmp_path) / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(StartupError, match=rf"^EMBED_MODEL_DIR: \S*{name}: its checksum[^\n]+$"):
        load_model(tmp_path, checked=(name,))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"dims": "many"}, "dims"),
        ({"image_mean": [0.5]}, "image_mean"),
        ({"image_fit": "pad"}, "image_fit"),
        ({"sha256": {}}, "sha256 lacks visual.onnx"),
        ({"sha256": {"visual.onnx": "0"}}, "sha256.visual.onnx"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    path = write_model(tmp_path) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(StartupError, match=rf"^EMBED_MODEL_DIR: \S*config.json: {named}[^\n]*$"):
        load_model(tmp_path, checked=())


def test_a_configuration_that_is_not_json_is_one_line(tmp_path: Path) -> None:
    (write_model(tmp_path) / "config.json").write_text("{\n")
    with pytest.raises(StartupError, match=r"^EMBED_MODEL_DIR: \S*config.json: [^\n]+$"):
        load_model(tmp_path, checked=())
