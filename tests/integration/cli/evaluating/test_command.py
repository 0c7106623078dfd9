"""`imago evaluate`, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from devtools.photos import CAT
from tests.support.pages import ENGLISH, FONT, page


def evaluate(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imago.cli.main", "evaluate", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=170, check=False, cwd=folder.parent)


def labelled(folder: Path, images: dict, **more: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "labels.json").write_text(json.dumps({"images": images, **more}))
    return folder


@pytest.mark.timeout(180)
@pytest.mark.skipif(not FONT.is_file(), reason="the font is not installed")
def test_a_folder_is_measured_through_an_instance_of_its_own_and_a_file_that_failed_is_reported(tmp_path):
    folder = labelled(
        tmp_path / "set",
        {
            "page.png": {"kind": "clean", "text": ENGLISH, "language": "en"},
            "cat.png": {"objects": [{"name": "cat"}]},
            "flat.png": {"objects": []},
            "broken.png": {"text": "cannot be read"},
        },
        names={"cat": {"same": ["chat", "tabby", "tabby cat", "egyptian cat"], "kinds": ["animal"]}},
        queries=[{"q": "harbour", "images": ["page.png"]}, {"q": "xqzvbw", "kind": "nonsense"}],
    )
    page(ENGLISH).save(folder / "page.png")
    (folder / "cat.png").write_bytes(CAT.read_bytes())
    Image.new("RGB", (320, 240), "blue").save(folder / "flat.png")
    (folder / "broken.png").write_bytes(b"not an image")

    done = evaluate(folder, "--json")

    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == [str(folder / "broken.png")]
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["images"] == 3
    assert report["text"][0]["error"] < 0.05
    assert [(score["language"], score["silent"], score["empty_with_tags"]) for score in report["tags"]] == [
        ("en", 0, 0),
        ("fr", 0, 0),
    ]
    assert [(score["kind"], score["empty"]) for score in report["search"]] == [("natural", 0), ("nonsense", 1)]
    assert set(report["cpu_ms"]) == {"upload", "thumbnail and exif", "ocr", "vision"}


@pytest.mark.timeout(180)
def test_a_folder_in_which_nothing_was_looked_at_fails(tmp_path):
    folder = labelled(tmp_path / "set", {"a.jpg": {"text": "x"}})
    (folder / "a.jpg").write_bytes(b"not an image")
    done = evaluate(folder)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "no image could be processed; the first failure: a.jpg: unsupported-media-type" in done.stderr


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "no labels.json"),
        ("{", "labels.json: the file: Invalid JSON"),
        ('{"images": {"a.jpg": {"txt": "x"}}}', "labels.json: images.a.jpg.txt: "),
        ('{"images": {"a.jpg": {"text": "x"}}}', "labels.json names 'a.jpg', which is not in the folder"),
    ],
)
def test_a_folder_that_cannot_be_judged_is_one_line_before_anything_starts(tmp_path, labels, message):
    folder = tmp_path / "set"
    folder.mkdir()
    if labels is not None:
        (folder / "labels.json").write_text(labels)
    done = evaluate(folder)
    assert done.returncode == 1
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("where", ["environment", ".env"])
def test_a_wrong_setting_is_one_line(tmp_path, monkeypatch, where):
    folder = labelled(tmp_path / "set", {"a.png": {"text": "x"}})
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    if where == ".env":
        (tmp_path / ".env").write_text("OCR_ENGINE=none-of-them\n")
    else:
        monkeypatch.setenv("OCR_ENGINE", "none-of-them")
    done = evaluate(folder)
    assert done.returncode == 1
    assert "OCR_ENGINE" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.timeout(180)
def test_what_keeps_the_instance_from_starting_is_one_line(tmp_path, monkeypatch):
    folder = labelled(tmp_path / "set", {"a.png": {"text": "x"}})
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    # Every setting is valid by itself, but `imago dev` refuses the provider without its model.
    monkeypatch.setenv("AI_PROVIDER", "openrouter")
    done = evaluate(folder)
    assert done.returncode == 1
    assert done.stderr.startswith("imago: Imago did not start: ")
    assert "openrouter needs AI_MODEL" in done.stderr
    assert len(done.stderr.splitlines()) == 1
