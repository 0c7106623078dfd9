"""`imago dev` with its data directory on a full file system: reads continue, and no process dies."""

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.instance import Instance
from devtools.photos import CAT

READ_SECONDS = 15.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this machine mounts no tmpfs")
    yield folder
    assert subprocess.run(["umount", "--lazy", str(folder)], check=False).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system can only be mounted by root")
def test_on_a_full_disk_reads_continue_and_no_process_dies(small_disk: Path) -> None:
    instance = Instance(small_disk / "data").start()
    try:
        image = instance.upload(CAT)[0]["upload"]["id"]
        processes = {process.pid for process in instance.processes()}
        _fill(small_disk / "ballast")
        deadline = time.monotonic() + READ_SECONDS
        while time.monotonic() < deadline:
            for path in (f"/images/{image}", "/images", "/metrics"):
                # Each route and status is a new series.
                assert _status(instance, path) == 200
            assert _status(instance, f"/images/{image}x") in (404, 422)
        assert processes <= {process.pid for process in instance.processes()}
        refused = instance.imago("upload", CAT, check=False)
        assert refused.returncode == 1
        (small_disk / "ballast").unlink()
        assert instance.upload(CAT)[0]["image"]["processing_status"] == "done"
    finally:
        instance.stop()
        instance.kill()


def _status(instance: Instance, path: str) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{instance.port}{path}", headers={"X-API-Key": instance.key})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return
