"""Errors of stages in the client's language."""

import re
from pathlib import Path

import pytest

from imago.api.images.stage_texts import localized

OPERATE = Path(__file__).parents[4] / "docs/operate.md"
CODES = re.findall(r"`([a-z]+(?:-[a-z]+)+)`", re.split(r"Error codes of stages:|`POST", OPERATE.read_text())[1])


@pytest.mark.parametrize("code", CODES)
def test_every_documented_code_has_a_french_text(code: str) -> None:
    assert localized(code, "English.", language="fr") != "English."
    assert localized(code, "English.", language="de") == "English."


def test_all_codes_are_found_in_the_documentation() -> None:
    assert len(CODES) > 20
    assert {"truncated-image", "ai-budget-exhausted"} <= set(CODES)


def test_a_stage_without_an_error_has_no_text() -> None:
    assert localized(None, None, language="fr") is None
    assert localized("new-code", "English.", language="fr") == "English."
