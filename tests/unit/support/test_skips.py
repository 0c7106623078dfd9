"""Skipped tests in CI."""

import pytest

from tests.support.skips import is_error


@pytest.mark.parametrize(
    ("reason", "strict", "error"),
    [
        ("Skipped: promtool is missing (`make setup` unpacks Debian's)", True, True),
        ("Skipped: no PostgreSQL server is installed (`make setup` installs Debian's)", True, True),
        ("Skipped: promtool is missing (`make setup` unpacks Debian's)", False, False),
        ("Skipped: GEMINI_API_KEY is not in the environment: gemini was not called", True, False),
        ("Skipped: the kernel's headers (linux-libc-dev) are not installed", True, True),
        ("Skipped: this kernel has no Landlock", True, False),
        ("Skipped: SQLite locks no rows", True, False),
    ],
)
def test_a_missing_tool_is_an_error_in_ci(reason: str, strict: bool, error: bool) -> None:
    assert is_error(reason, strict=strict) is error
