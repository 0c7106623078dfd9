"""The audit of dependencies fails if it looked at nothing."""

import pytest

from hack.audit import problems

GOOD = {"name": "aiohttp", "version": "3.14.5", "vulns": []}


@pytest.mark.parametrize(
    ("report", "lines"),
    [
        ({"dependencies": [GOOD]}, []),
        ({"dependencies": []}, ["no package was checked"]),
        ({}, ["no package was checked"]),
        (
            {"dependencies": [GOOD, {"name": "click", "skip_reason": "could not reach the service"}]},
            ["click: not checked: could not reach the service"],
        ),
        (
            {"dependencies": [{**GOOD, "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.15"]}]}]},
            ["aiohttp 3.14.5: PYSEC-1, fixed in 3.15"],
        ),
    ],
)
def test_packages_that_were_not_checked_are_problems(report: dict[str, object], lines: list[str]) -> None:
    assert problems(report) == lines
