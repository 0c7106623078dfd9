"""Code that runs in a decoding process reaches nothing of its parent, of other images, or of the network."""

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imago.imaging.sandbox import confinement, landlock
from tests.support import hostile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the parts are Linux's")

needs_landlock = pytest.mark.skipif("landlock" in confinement.missing_parts(), reason="this kernel has no Landlock")
needs_seccomp = pytest.mark.skipif("seccomp" in confinement.missing_parts(), reason="this kernel has no seccomp")

# The user of a container; as root, a test must not depend on being root.
NOBODY = 65534


@dataclass
class Surroundings:
    """What a hostile task may try to reach: a server, a directory that anybody may write, and a file in it."""

    port: int
    directory: Path
    foreign: Path

    def run(self, module: str, *options: str, **more: object) -> Any:
        """Run a program as an ordinary user, with a secret in its environment; return the JSON that it prints."""
        arguments = {"port": self.port, "foreign": str(self.foreign), "directory": str(self.directory), **more}
        done = subprocess.run(
            [sys.executable, "-m", module, *options, json.dumps(arguments)],
            env={"PYTHONPATH": os.pathsep.join(sys.path), "SECRET": hostile.SECRET, "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=120,
            **({"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}),
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[Surroundings]:
    directory = tmp_path / "objects"
    directory.mkdir()
    foreign = directory / "original"
    foreign.write_bytes(b"the image of another client")
    if os.geteuid() == 0:
        for path in (directory, foreign):
            os.chown(path, NOBODY, NOBODY)
        for path in (*tmp_path.parents, tmp_path):
            if path.owner() != "root" or path == Path("/"):
                continue
            path.chmod(path.stat().st_mode | 0o011)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield Surroundings(server.getsockname()[1], directory, foreign)


@needs_landlock
@needs_seccomp
def test_a_task_reaches_nothing_but_its_own_files(surroundings: Surroundings) -> None:
    seen = surroundings.run("tests.support.sandbox_host")
    assert seen["reached"] == []
    assert sorted(path.name for path in surroundings.directory.iterdir()) == ["original"]
    assert {name for name, code in seen["errors"].items() if code not in (errno.EPERM, errno.ENOSYS)} == set()
    assert seen["allowed"]["thread"] == [1]


# What each part refuses without the others.
FILES = {
    "read another's file", "write another's file", "list a directory", "create a file", "create a link",
    "create a directory", "read the accounts", "list the processes",
}  # fmt: skip
CHANGES = {"write another's file", "change another's mode", "create a file", "create a link", "create a directory"}
MEMORY = {"read the parent's environment", "open the parent's memory", "copy the parent's memory", "trace the parent"}
NETWORK = {"connect", "open a UDP socket", "open a Unix socket"}
PROCESSES = {"fork", "start a program", "become a program", "create an anonymous file", "create a namespace"}
SIGNALS = {"signal the parent", "signal the parent by a descriptor", "signal the parent by a socket's owner"}
LIMITS = {"raise a limit", "change the parent's limits", "change the parent's processors"}


def tried(surroundings: Surroundings, *parts: str) -> set[str]:
    return set(surroundings.run("tests.support.hostile", "--parts", ",".join(parts)))


def test_each_part_refuses_what_succeeds_without_it(surroundings: Surroundings) -> None:
    without = tried(surroundings)
    # Some machines forbid these to everybody.
    possible = {*hostile.attempts(parent=1, port=1, foreign="", directory="")} - without
    assert possible <= {
        "trace the parent",
        "copy the parent's memory",
        "open the parent's memory",
        "create a namespace",
    }
    assert tried(surroundings, "memory") == without - {"allocate 8 GiB"}
    assert tried(surroundings, "hidden") == without - MEMORY


@needs_landlock
def test_landlock_refuses_files_and_other_processes(surroundings: Surroundings) -> None:
    reached = tried(surroundings, "landlock")
    assert reached.isdisjoint(FILES | MEMORY | {"start a program", "become a program"})
    if landlock.version() >= 4:
        assert "connect" not in reached
    if landlock.version() >= 6:
        assert "signal the parent" not in reached


@needs_seccomp
def test_the_filter_refuses_changes_processes_and_the_network(surroundings: Surroundings) -> None:
    reached = tried(surroundings, "seccomp")
    refused = CHANGES | NETWORK | PROCESSES | SIGNALS | LIMITS | {"trace the parent", "copy the parent's memory"}
    assert reached.isdisjoint(refused)
    # Landlock's part.
    assert "read another's file" in reached
