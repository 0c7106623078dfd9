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
    ],
)
def test_a_file_name_is_stored_without_directories_and_control_characters(sent: str | None, stored: str) -> None:
    assert clean_name(sent) == stored


def test_object_keys_contain_only_the_prefix_and_uuids() -> None:
    client, image = uuid4(), uuid4()
    assert original_key("", client, image) == f"{client}/{image}/original"
    assert thumbnail_key("/pre/fix/", client, image) == f"pre/fix/{client}/{image}/thumbnail"
