"""The documentation names only files, headings and make targets that exist."""

import re
from pathlib import Path

import pytest

from devtools.photos import ROOT

PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "tests/cluster/README.md", *(ROOT / "docs").rglob("*.md")]
)

# Paths in the text are relative to one of these directories.
BASES = (ROOT, ROOT / "services", ROOT / "services" / "imago", ROOT / "operator" / "imago_operator")

_LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"(?<![\w/.{}<>*:@=-])([\w-][\w.-]*(?:/[\w.-]+)*/?)(?![\w/{}<>*…])")


def _id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text())


def _slugs(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub builds them."""
    headings = re.findall(r"^#+ (.+)$", _prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _names_a_path(text: str) -> bool:
    """Return whether a word looks like a path into the source tree."""
    first, slash, rest = text.partition("/")
    # `build` is the output of tests and benchmarks: it may exist without the files that a page names.
    return first != "build" and bool(slash and rest.strip("/")) and any((base / first).is_dir() for base in BASES)


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link, anchor in _LINK.findall(_prose(page)):
        target = (page.parent / link).resolve() if link else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in _slugs(target), f"{link}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_every_path_in_the_text_exists(page: Path) -> None:
    text = re.sub(r"\]\([^)]*\)", "]", _prose(page))
    named = {match.strip(".") for match in _PATH.findall(text)}
    missing = [
        path for path in sorted(named) if _names_a_path(path) and not any((base / path).exists() for base in BASES)
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_every_make_target_in_the_text_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {name for line in re.findall(r"^([a-z][a-z -]*):", makefile, flags=re.MULTILINE) for name in line.split()}
    assert set(re.findall(r"`make ([a-z-]+)", page.read_text())) <= targets
