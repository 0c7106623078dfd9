"""Cursors: what a list encoded is decoded, and anything else is refused with a problem."""

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imago.api.http.paging import decode_id, decode_tag, encode_cursor
from imago.core.errors import Unprocessable

MAX = 2**63 - 1

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
# Close to what is valid, so that each part of the check is reached.
nearly_a_tag = st.tuples(any_json | st.integers(-1, 2**64), any_json | st.text())


def encoded(key: Any) -> str:
    """Return a cursor of any JSON, which `encode_cursor` would refuse in part (large numbers, lone surrogates)."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).rstrip(b"=").decode()


@given(st.integers(1, MAX))
def test_an_id_survives_its_cursor(number: int) -> None:
    assert decode_id(encode_cursor(number)) == number


@given(st.integers(0, MAX), st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_a_tag_survives_its_cursor(count: int, tag: str) -> None:
    assert decode_tag(encode_cursor([count, tag])) == (count, tag)


@given(any_json | nearly_a_tag)
def test_any_other_json_is_refused_or_has_the_right_types(key: Any) -> None:
    for decode in (decode_id, decode_tag):
        try:
            found = decode(encoded(key))
        except Unprocessable:
            continue
        assert found == (tuple(key) if decode is decode_tag else key)
        number, *rest = found if isinstance(found, tuple) else (found,)
        assert type(number) is int
        assert 0 <= number <= MAX
        assert all(type(text) is str and "\0" not in text for text in rest)


@given(st.text() | st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode()))
def test_no_text_is_an_error_of_another_kind(text: str) -> None:
    for decode in (decode_id, decode_tag):
        with contextlib.suppress(Unprocessable):
            decode(text)


@pytest.mark.parametrize(
    "key", [[True, "a"], [False, "a"], [1.0, "a"], [2**63, "a"], [1], [1, "a", 2], "1", [[1], "a"]]
)
def test_a_cursor_of_tags_has_one_count_and_one_tag(key: Any) -> None:
    with pytest.raises(Unprocessable):
        decode_tag(encoded(key))
