"""The project's files are consistent with each other."""

import re
import subprocess

from devtools.photos import ROOT
from imago.settings import Settings


def test_the_env_example_lists_exactly_the_settings() -> None:
    listed = re.findall(r"^([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)
    assert sorted(listed) == sorted(name.upper() for name in Settings.model_fields)


def test_the_env_example_has_the_defaults() -> None:
    values = dict(re.findall(r"^([A-Z0-9_]+)=(.+)$", (ROOT / ".env.example").read_text(), flags=re.MULTILINE))
    assert Settings(**{name.lower(): value for name, value in values.items()}) == Settings()


def test_make_help_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", text, flags=re.MULTILINE))
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {line.split()[0] for line in shown.stdout.splitlines()} == targets


def test_every_locked_package_has_hashes_and_no_url() -> None:
    for lock in (ROOT / "requirements").glob("*.lock"):
        text = lock.read_text()
        assert "://" not in text, lock
        packages = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
        for block in re.split(r"\n(?=\S)", packages.strip()):
            assert "--hash=sha256:" in block, block.splitlines()[0]
