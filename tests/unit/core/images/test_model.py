"""Names of images and keys of their objects."""

from uuid import uuid4

import pytest

from imago.core.images.model import clean_name, original_key, thumbnail_key


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\dir\\a.png", "a.png"),
        ("a\r\nSet-Cookie: x.jpg", "aSet-Cookie: x.jpg"),
        ("\0\x1b[31m.gif", "[31m.gif"),
        ("", "image"),
        (None, "image"),
        ("e\u0301te\u0301.jpg", "été.jpg"),
        ("x" * 999, "x" * 255),
        (".", "image"),
        (" .. ", "image"),
        ("\u200d.jpg", ".jpg"),
        ("pay\u200dpal.jpg", "paypal.jpg"),
        ("zero\u200bwidth\ufeff\u00ad\u2060.jpg", "zerowidth.jpg"),
        ("\u202ea\u2066b\u2069\u200f.jpg", "ab.jpg"),
        ("a\u2028b\u2029c.jpg", "a b c.jpg"),
        ("\ud83d.jpg", ".jpg"),
        ("🏴\U000e0067.jpg", "🏴.jpg"),
    ],
)
def test_a_file_name_is_stored_without_directories_and_control_characters(sent: str | None, stored: str) -> None:
    assert clean_name(sent) == stored


@pytest.mark.parametrize(
    "name",
    [
        "👨‍👩‍👧.jpg",
        "🏳️‍🌈 ❤️‍🔥 👩🏽‍🚀 🏴󠁧󠁢󠁳󠁣󠁴󠁿 🇫🇷.jpg",
        "\U0001fae9 of Unicode 16.jpg",
        "می‌خواهم.jpg",
        "ه‍.ش.jpg",
        "র‍্য ক্‌ষ.jpg",
        "٦\u0605٧.jpg",
        "Screenshot 2026-01-01 at 9.41.00\u202fAM.png",
        "CON.jpg",
    ],
)
def test_characters_that_belong_to_a_name_are_kept(name: str) -> None:
    assert clean_name(name) == name


@pytest.mark.parametrize(
    ("cluster", "extension"),
    [
        ("a", ".jpg"),
        ("é", ".jpeg"),
        ("👨‍👩‍👧", ".jpg"),
        ("🇫🇷", ".jpg"),
        ("क्षि", ".heic"),
        ("q\u0323\u0307", ".jpg"),
        ("👍🏽", ".gz"),
    ],
)
@pytest.mark.parametrize("shift", range(3))
def test_a_long_name_keeps_its_extension_and_whole_letters(cluster: str, extension: str, shift: int) -> None:
    clusters = (255 - len(extension) - shift) // len(cluster)
    assert clean_name("-" * shift + cluster * 300 + extension) == "-" * shift + cluster * clusters + extension


def test_a_letter_of_more_marks_than_a_name_may_have_is_shortened() -> None:
    assert len(clean_name("z" + "\u0301" * 600 + ".jpg")) == 255


def test_object_keys_contain_only_the_prefix_and_uuids() -> None:
    client, image = uuid4(), uuid4()
    assert original_key("", client, image) == f"{client}/{image}/original"
    assert thumbnail_key("/pre/fix/", client, image) == f"pre/fix/{client}/{image}/thumbnail"
