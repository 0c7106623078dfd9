"""Settings that change processing: THUMBNAIL_MODE, THUMBNAIL_FORMAT and OCR_ENABLED."""

import json
import time
from pathlib import Path
from urllib.request import Request, urlopen

from devtools.instance import Instance
from devtools.photos import CAT
from tests.support.images import encoded, picture


def test_an_inline_thumbnail_exists_when_the_upload_is_answered_and_disabled_stages_are_skipped(tmp_path: Path) -> None:
    instance = Instance(
        tmp_path / "data", THUMBNAIL_MODE="inline", OCR_ENABLED="false", THUMBNAIL_FORMAT="jpeg"
    ).start()
    try:
        (uploaded,) = json.loads(instance.imago("upload", CAT, "--json").stdout)
        base = f"http://127.0.0.1:{instance.port}/images/{uploaded['upload']['id']}"

        def get(path: str) -> dict:
            with urlopen(Request(base + path, headers={"X-API-Key": instance.key})) as answer:
                return json.load(answer)

        with urlopen(get("/thumbnail-url")["url"]) as answer:
            assert answer.headers["Content-Type"] == "image/jpeg"
            assert answer.read().startswith(b"\xff\xd8")
        stages = get("/status")["stages"]
        assert (stages["thumbnail"]["status"], stages["ocr"]["status"]) == ("done", "skipped")
        deadline = time.monotonic() + 60
        while get("/status")["status"] != "done":
            assert time.monotonic() < deadline, get("/status")
            time.sleep(0.1)
        (tmp_path / "cut.png").write_bytes(encoded("png", picture(900, 900))[:60])
        (broken,) = json.loads(instance.imago("upload", tmp_path / "cut.png", "--wait", "--json", check=False).stdout)
        assert "thumbnail: truncated-image" in broken["error"]
    finally:
        instance.stop()
        instance.kill()
