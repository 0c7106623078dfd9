"""Texts of every encoding that cameras and programs use."""

import pytest

from imago.imaging.metadata.exif.values import MAX_TEXT, ascii_text, numbers, text


@pytest.mark.parametrize(
    ("raw", "right"),
    [
        ("Ünix 1".encode(), "Ünix 1"),
        ("Café".encode("latin-1"), "Café"),
        (b"Lens\x99", "Lens™"),
        ("富士フイルム".encode("cp932"), "富士フイルム"),
        ("キヤノン".encode("cp932"), "キヤノン"),
        ("ソニー".encode(), "ソニー"),
        ("ソニー".encode()[:-1], "ソニ"),
        ("Été".encode("latin-1"), "Été"),
        (b"A\x07\x00B", "A"),
        (b"  spaces  within  ", "spaces within"),
        (b"\xff\xfe", "ÿþ"),
        (b"\x81", None),
        (b"", None),
        ((67, 97, 110, 111, 110, 0), "Canon"),
        ("ه\u200cم".encode(), "ه\u200cم"),
        (7, None),
        (None, None),
    ],
)
def test_a_text_is_decoded(raw: object, right: str | None) -> None:
    assert text(raw) == right


def test_a_text_is_cut() -> None:
    assert len(text("é".encode() * 10_000) or "") == MAX_TEXT


def test_digits_become_ascii() -> None:
    assert ascii_text("\u200f٢٠١٩：０７".encode()) == "2019:07"


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ((1, 4), [0.25]),
        ((1, 0), []),
        (((1, 2), (0, 0), (3, 1)), [0.5, 3.0]),
        (b"1/4", [0.25]),
        (b"1/0", []),
        (b"x", []),
    ],
)
def test_numbers_of_any_type_are_read(value: object, right: list[float]) -> None:
    assert numbers(value) == right
