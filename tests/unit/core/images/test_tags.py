"""Tags."""

import pytest

from imago.core.images.tags import normalize_tag, normalize_tags


def test_tags_are_folded_deduplicated_and_limited() -> None:
    assert normalize_tags(["Chat", " chat ", "E\u0301TE\u0301", "", "\0"]) == ("chat", "été")
    assert len(normalize_tags([f"t{index}" for index in range(999)])) == 64
    assert len(normalize_tag("x" * 999)) == 64


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("👨‍👩‍👧 Famille", "👨‍👩‍👧 famille"),
        ("🏴󠁧󠁢󠁳󠁣󠁴󠁿", "🏴󠁧󠁢󠁳󠁣󠁴󠁿"),
        ("می‌خواهم", "می‌خواهم"),
        ("in\u200dvisible", "in visible"),
        ("\u202etag\u2066", "tag"),
    ],
)
def test_joiners_are_kept_where_they_are_written(sent: str, stored: str) -> None:
    assert normalize_tag(sent) == stored


def test_a_long_tag_ends_with_a_whole_emoji() -> None:
    assert normalize_tag("👨‍👩‍👧" * 20) == "👨‍👩‍👧" * 12
