"""The rules of the domain, one by one."""

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imago.core.clients import keys
from imago.core.clients.model import PLAN_LIMITS, Plan, Usage
from imago.core.clients.quotas import quota_exceeded
from imago.core.clients.scopes import parse_client_scopes
from imago.core.errors import QuotaExceeded
from imago.core.images.model import clean_name, original_key, thumbnail_key
from imago.core.images.tags import normalize_tag, normalize_tags
from imago.core.images.text_folding import fold, query_words


def test_a_key_is_read_back_and_every_typo_is_refused() -> None:
    key = keys.generate()
    text = key.reveal()
    assert keys.parse(text) == key
    for index in range(len(text)):
        wrong = text[:index] + ("x" if text[index] != "x" else "y") + text[index + 1 :]
        assert keys.parse(wrong) is None, f"a typo at {index} went unnoticed"


def test_a_key_shows_its_secret_nowhere_but_where_it_is_revealed() -> None:
    key = keys.generate()
    assert key.secret not in repr(key)
    assert key.secret not in str([key])


@given(st.text(max_size=200))
def test_no_text_breaks_the_reading_of_keys(text: str) -> None:
    assert keys.parse(text) is None


@pytest.mark.parametrize(
    ("given_name", "kept"),
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
def test_a_name_is_kept_without_what_could_hurt(given_name: str | None, kept: str) -> None:
    assert clean_name(given_name) == kept


def test_object_keys_hold_uuids_alone() -> None:
    client, image = uuid4(), uuid4()
    assert original_key("", client, image) == f"{client}/{image}/original"
    assert thumbnail_key("/pre/fix/", client, image) == f"pre/fix/{client}/{image}/thumbnail"


def test_tags_are_folded_deduplicated_and_bounded() -> None:
    assert normalize_tags(["Chat", " chat ", "E\u0301TE\u0301", "", "\0"]) == ("chat", "été")
    assert len(normalize_tags([f"t{index}" for index in range(999)])) == 64
    assert len(normalize_tag("x" * 999)) == 64


def test_search_folds_accents_case_and_punctuation_alike_in_texts_and_queries() -> None:
    assert fold("L'Été à Noël — Œuvre_1.JPG") == "l ete a noel œuvre 1 jpg"
    assert query_words('"été" OR (noël*) NEAR & | !') == ("ete", "or", "noel", "near")


def test_a_client_cant_hold_the_platforms_scopes() -> None:
    for scope in ("admin", "clients:manage", "nonsense"):
        with pytest.raises(ValueError):
            parse_client_scopes(["images:read", scope])


def test_the_plans_have_the_limits_of_the_design() -> None:
    free, premium = PLAN_LIMITS[Plan.FREE], PLAN_LIMITS[Plan.PREMIUM]
    assert (free.requests_per_minute, free.burst, free.storage_bytes, free.images) == (60, 20, 2**30, 1000)
    assert (premium.requests_per_minute, premium.burst, premium.storage_bytes) == (6000, 1000, 2**40)


def test_a_quota_refusal_tells_the_numbers() -> None:
    problem = quota_exceeded(Usage(100, 3), PLAN_LIMITS[Plan.FREE], needed_bytes=7)
    assert isinstance(problem, QuotaExceeded)
    assert problem.extra["storage_used_bytes"] == 100
    assert problem.extra["needed_bytes"] == 7
