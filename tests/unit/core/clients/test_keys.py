"""API keys: their format, their checksum, and where their secret shows."""

from hypothesis import given
from hypothesis import strategies as st

from imago.core.clients import keys


def test_a_key_is_parsed_and_every_typo_is_rejected() -> None:
    key = keys.generate()
    text = key.reveal()
    assert keys.parse(text) == key
    for index in range(len(text)):
        typo = text[:index] + ("x" if text[index] != "x" else "y") + text[index + 1 :]
        assert keys.parse(typo) is None, f"the typo at {index} was not noticed"


def test_only_reveal_shows_the_secret() -> None:
    key = keys.generate()
    assert key.secret not in repr(key)
    assert key.secret not in str([key])


@given(st.text(max_size=200))
def test_parsing_arbitrary_text_never_fails(text: str) -> None:
    assert keys.parse(text) is None
