"""`imago dev` as a user runs it: one command, real photos, and every result read."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from bench.statistics import character_error_rate
from devtools.exif_comparison import equal, exiftool, expected, ours
from devtools.instance import IMAGO, Instance
from devtools.photos import CAT, CHINA, COFFEE, FLOWER, ROCKET, ROOT, corpus_files
from imago.core.images.results import ExifResult
from tests.support.images import encoded, picture
from tests.support.pages import ENGLISH, FRENCH, page


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    running = Instance(tmp_path_factory.mktemp("dev") / "data").start()
    yield running
    running.stop()
    running.kill()


def test_the_first_start_shows_the_key_and_keeps_it_private(instance: Instance) -> None:
    assert f"http://127.0.0.1:{instance.port}/docs" in instance.output
    assert instance.key in instance.output
    for name in ("default-client.json", "secrets.json"):
        assert stat.S_IMODE((instance.data_dir / name).stat().st_mode) == 0o600
    saved = json.loads((instance.data_dir / "default-client.json").read_text())
    assert set(saved) == {"client_id", "api_key", "url"}


def _fields(value: object) -> object:
    """Return the names of the fields of an object and of the objects in it."""
    return {name: _fields(inner) for name, inner in value.items()} if isinstance(value, dict) else None


@pytest.mark.parametrize("readme", ["README.md", "docs/fr/README.md"])
def test_the_readme_shows_the_fields_of_an_image(instance: Instance, readme: str, tmp_path: Path) -> None:
    # The README's photo has coordinates, so that it has a place.
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (43.0, 28.0, 2.81), 3: "E", 4: (11.0, 53.0, 6.46)})
    Image.open(CHINA).save(tmp_path / "photo.jpg", exif=exif)
    blocks = re.findall(r"^```json\n(.*?)^```", (ROOT / readme).read_text(), re.MULTILINE | re.DOTALL)
    _accepted, image = map(json.loads, blocks)
    (result,) = instance.upload(tmp_path / "photo.jpg")
    assert _fields(image) == _fields(result["image"])


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed (`make setup` installs it)")
def test_real_camera_files_get_the_exif_that_exiftool_reads(instance: Instance) -> None:
    paths = corpus_files("jpg/*.jpg", "jpg/gps/*.jpg", "heic/*", "tiff/*.tiff")[:48]
    assert len(paths) >= 30
    truths = exiftool(paths)
    results = {Path(result["path"]): result for result in instance.upload(*paths)}
    compared = 0
    for path, truth in truths.items():
        detail = results[path]["image"]
        assert detail["processing_status"] == "done", results[path]
        mine = ours(ExifResult.from_json(detail["exif"]))
        for name, value in expected(truth).items():
            if name == "taken_at" and "XMP-photoshop:DateCreated" in truth:
                # It comes before EXIF's date of the last change, which `expected` knows.
                continue
            compared += 1
            assert equal(name, mine.get(name), value), (path.name, name, mine.get(name), value)
    assert compared > 150


def test_pages_are_read_in_both_languages(instance: Instance, tmp_path: Path) -> None:
    for name, text in (("french.png", FRENCH), ("english.png", ENGLISH)):
        page(text).save(tmp_path / name)
    read = {Path(result["path"]).name: result["image"]["ocr"] for result in instance.upload(tmp_path)}
    assert character_error_rate(FRENCH, read["french.png"]["text"]) < 0.03
    assert character_error_rate(ENGLISH, read["english.png"]["text"]) < 0.03
    assert (read["french.png"]["language"], read["english.png"]["language"]) == ("fr", "en")
    found = json.loads(instance.imago("search", "poissons", "argentes", "--json").stdout)
    assert [(image["original_name"], image["match"]) for image in found] == [("french.png", "text")]
    assert " text " in instance.imago("search", "poissons", "argentes").stdout


def test_photos_get_sensible_tags_and_no_text(instance: Instance) -> None:
    wanted = {CAT: "cat", COFFEE: "coffee", ROCKET: "rocket", CHINA: "building"}
    results = {Path(result["path"]): result["image"] for result in instance.upload(*wanted, FLOWER)}
    for path, tag in wanted.items():
        assert tag in results[path]["ai"]["tags"], results[path]["ai"]
    assert not any(image["ocr"]["has_text"] for image in results.values())


def test_photos_are_found_by_what_a_query_means(instance: Instance) -> None:
    instance.upload(CAT, COFFEE, FLOWER)
    for query, photo in (("feline pet", CAT), ("un petit félin", CAT), ("boisson chaude", COFFEE)):
        found = json.loads(instance.imago("search", *query.split(), "--json").stdout)
        assert (found[0]["original_name"], found[0]["match"]) == (photo.name, "meaning"), query
    assert json.loads(instance.imago("search", "qzxwv", "plkjh", "--json").stdout) == []


def test_an_image_with_a_broken_body_ends_with_the_errors_of_its_stages(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(encoded("png", picture(900, 900))[:60])
    (tmp_path / "whole.png").write_bytes(encoded("png"))
    results = {Path(result["path"]).name: result for result in instance.upload(tmp_path, check=False)}
    assert results["whole.png"]["error"] is None
    assert "truncated-image" in results["cut.png"]["error"]
    assert results["cut.png"]["image"]["processing_status"] == "partial"
    assert instance.imago("upload", tmp_path / "cut.png", "--wait", check=False).returncode == 1


def test_the_command_line_reports_a_rejected_file_in_one_line(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("not an image")
    done = instance.imago("upload", tmp_path / "note.txt", check=False)
    assert (done.returncode, "unsupported-media-type" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr
    created = json.loads(instance.imago("client", "create", "Atelier", "--plan", "free").stdout)
    assert created["api_key"].startswith("imago_")


def test_clients_are_managed_from_the_command_line(instance: Instance) -> None:
    made = json.loads(instance.imago("client", "create", "Studio", "--plan", "premium").stdout)
    listed = json.loads(instance.imago("client", "list", "--json").stdout)
    assert made["uuid"] in {row["uuid"] for row in listed}
    rotated = json.loads(instance.imago("client", "rotate-key", made["uuid"], "--grace", "60").stdout)
    assert rotated["api_key"] not in (made["api_key"], None)
    owned = json.loads(instance.imago("client", "transfer", str(made["id"]), "cluster/namespace/studio").stdout)
    assert (owned["owner"], owned["managed_by"]) == ("cluster/namespace/studio", "operator")
    refused = instance.imago("client", "transfer", str(made["id"]), "studio", check=False)
    assert (refused.returncode, "OWNER must be <cluster id>/<namespace uid>/<name>" in refused.stderr) == (1, True)
    released = instance.imago("client", "release", str(made["id"]))
    assert f"To undo this: imago client transfer {made['id']} cluster/namespace/studio" in released.stderr
    assert json.loads(released.stdout)["owner"] is None
    assert instance.imago("client", "deactivate", made["uuid"]).returncode == 0
    shown = json.loads(instance.imago("client", "show", made["uuid"]).stdout)
    assert shown["active"] is False
    begun = json.loads(instance.imago("client", "erase", made["uuid"], "--yes").stdout)
    assert begun["erasure"]["images_total"] == 0
    wrong = instance.imago("client", "create", "Studio", "--scope", "images:rea", check=False)
    assert "scopes.0: Must be one of: " in wrong.stderr
    assert "images:read" in wrong.stderr
    missing = instance.imago("client", "show", "999999", check=False)
    assert (missing.returncode, missing.stderr.strip()) == (1, "imago: not-found: No such client.")


def test_one_endpoint_serves_the_metrics_of_all_processes(instance: Instance) -> None:
    import urllib.request

    instance.upload(CAT)
    with urllib.request.urlopen(f"http://127.0.0.1:{instance.port}/metrics") as answer:
        text = answer.read().decode()
    for stage in ("thumbnail", "exif", "ocr", "vision"):
        assert f'imago_stage_duration_seconds_count{{lane="premium",stage="{stage}"}}' in text
    assert instance.key not in text


def test_no_log_contains_a_secret(instance: Instance) -> None:
    secrets = [instance.key, *json.loads((instance.data_dir / "secrets.json").read_text()).values()]
    for log in instance.data_dir.rglob("*.log"):
        text = log.read_text(errors="replace")
        for secret in secrets:
            assert secret not in text, log


def test_an_instance_that_cannot_start_reports_the_reason_in_one_line(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cases = {
        "in use by another": ["--port", "0", "--data-dir", instance.data_dir],
        "Address already in use": ["--port", instance.port, "--data-dir", tmp_path / "other"],
        "cannot write to the data directory": ["--port", "0", "--data-dir", tmp_path / "file" / "data"],
    }
    for reason, arguments in cases.items():
        done = subprocess.run(
            [IMAGO, "dev", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 1, reason
        assert reason in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_settings_that_cannot_apply_are_one_line_before_anything_starts(tmp_path: Path) -> None:
    cases = {
        "AI_PROVIDER: gemini needs GEMINI_API_KEY": {"AI_PROVIDER": "gemini"},
        "DATABASE_URL: `imago dev` keeps its own database": {"DATABASE_URL": "postgresql+asyncpg://host/imago"},
        "NATS_URL: `imago dev` runs its own NATS server": {"NATS_URL": "nats://host:4222"},
        "STORAGE_BACKEND=s3 needs S3_BUCKET": {"STORAGE_BACKEND": "s3"},
        ".env: PROT is not a setting; did you mean PORT?": {},
    }
    for reason, environment in cases.items():
        (tmp_path / ".env").write_text("" if environment else "PROT=9000\n")
        done = subprocess.run(
            [IMAGO, "dev", "--port", "0", "--data-dir", "data"],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            cwd=tmp_path,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"imago: {reason}")
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_env_file_private_data_logs_on_the_terminal_and_an_audit(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    (tmp_path / ".env").write_text(Path(".env.example").read_text() + "LOG_LEVEL=DEBUG\nMETRICS_CLIENTS=default\n")
    instance = Instance(tmp_path / "data", API_KEY_PEPPER="", LOGLEVEL="info").start()
    try:
        assert "the environment variable LOGLEVEL is not a setting; did you mean LOG_LEVEL?" in instance.output
        assert instance.upload(CAT)[0]["image"]["processing_status"] == "done"
        open_to_others = [
            path for path in [instance.data_dir, *instance.data_dir.rglob("*")] if path.lstat().st_mode & 0o077
        ]
        assert open_to_others == []
        report = json.loads(instance.imago("audit").stdout)
        assert (report["objects"], report["unknown"], report["missing"]) == (2, 0, 0)
    finally:
        instance.stop()
        instance.kill()
    assert instance.process is not None
    assert instance.process.stdout is not None
    shown = instance.output + instance.process.stdout.read()
    assert "worker-exif" in shown
    assert 'client="default"' in shown or "image.done" in shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_leaves_no_process_and_a_restart_resumes_pending_work(tmp_path: Path, number: signal.Signals) -> None:
    instance = Instance(tmp_path / "data").start()
    try:
        photos = tmp_path / "photos"
        photos.mkdir()
        for index in range(12):
            Image.open(CAT).rotate(index).save(photos / f"{index}.png")
        instance.imago("upload", photos)
        processes = instance.processes()
        assert len(processes) >= 6
        assert instance.stop(number) < 10
        gone, alive = psutil.wait_procs(processes, timeout=1)
        assert not alive, [process.cmdline() for process in alive]
        assert len(gone) == len(processes)
        if number == signal.SIGTERM:
            # As after a power failure; the database has all that is unfinished.
            for file in (tmp_path / "data" / "nats").rglob("meta.inf"):
                file.write_bytes(b"")
        again = Instance(tmp_path / "data", port=instance.port).start()
        try:
            assert again.key == instance.key
            assert again.key not in again.output, "the key is shown only at the first start"
            deadline = time.monotonic() + 90
            while True:
                images = json.loads(again.imago("search", "--limit", "50", "--json").stdout)
                states = {image["processing_status"] for image in images}
                if states == {"done"}:
                    break
                assert time.monotonic() < deadline, f"pending work did not resume: {states}"
                time.sleep(0.5)
            assert len(images) == 12
        finally:
            again.stop()
            again.kill()
    finally:
        instance.kill()


def test_a_killed_supervisor_leaves_no_orphan(tmp_path: Path) -> None:
    instance = Instance(tmp_path / "data").start()
    processes = instance.processes()
    instance.kill()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive, [process.cmdline() for process in alive]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", instance.port))


def test_the_script_of_helm_test_uploads_and_reads_an_image(instance: Instance) -> None:
    secrets = json.loads((instance.data_dir / "secrets.json").read_text())
    url = f"http://127.0.0.1:{instance.port}"
    done = subprocess.run(
        [sys.executable, "-c", Path("charts/imago/files/test_upload.py").read_text()],
        env={"IMAGO_URL": url, "ADMIN_API_KEY": secrets["ADMIN_API_KEY"], "TIMEOUT": "120"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "original: downloaded and identical" in done.stdout
    assert done.stdout.endswith("the installation works\n")
    assert secrets["ADMIN_API_KEY"] not in done.stdout + done.stderr
