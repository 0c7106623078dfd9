"""The form of owners."""

import re

from imago.core.clients.ownership import OWNER_PATTERN


def test_owners_have_no_character_that_is_white_space_only_in_python_or_only_in_json_schema() -> None:
    # Without `\s`, whose meaning depends on the dialect, the pattern rejects these characters in both.
    pattern = OWNER_PATTERN.replace(r"\s", "")
    assert re.fullmatch(pattern, "cluster/uid/name")
    for space in "\x1c\x1d\x1e\x1f\x85\ufeff":
        assert not re.fullmatch(pattern, f"clus{space}ter/uid/name"), ascii(space)
        assert not re.fullmatch(pattern, f"cluster/u{space}id/name"), ascii(space)
