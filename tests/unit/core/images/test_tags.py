"""Tags."""

from imago.core.images.tags import normalize_tag, normalize_tags


def test_tags_are_folded_deduplicated_and_limited() -> None:
    assert normalize_tags(["Chat", " chat ", "E\u0301TE\u0301", "", "\0"]) == ("chat", "été")
    assert len(normalize_tags([f"t{index}" for index in range(999)])) == 64
    assert len(normalize_tag("x" * 999)) == 64
