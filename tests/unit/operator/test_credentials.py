"""The Secret: whose it is, and one step at a time."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from imago.core.clients import keys
from imago_operator.credentials import (
    KeyState,
    build_correction,
    build_next,
    build_promotion,
    build_secret,
    held_in,
    is_ours,
    outdated,
    previous_expiry,
    rotation_due,
)
from imago_operator.resource import read_spec, ref_of
from tests.support.operator_fakes import resource

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
CLIENT = UUID(int=7)
GRACE = timedelta(hours=24)


def made(**spec: Any) -> tuple[Any, Any, Any, keys.ApiKey]:
    body, key = resource("atelier", **spec), keys.generate()
    secret = build_secret(ref_of(body), read_spec(body), client=CLIENT, url="https://imago", upcoming=key, rotated=None)
    secret["metadata"]["resourceVersion"] = "5"
    return body, read_spec(body), secret, key


def state(key_id: str, *, expires: datetime | None = None, revoked: datetime | None = None) -> KeyState:
    return KeyState(key_id, NOW - timedelta(days=1), expires, revoked)


def test_a_new_secret_holds_a_key_that_is_yet_to_be_registered() -> None:
    body, _, secret, key = made()
    held = held_in(secret)
    assert (held.current, held.upcoming, held.client_id) == (None, key, CLIENT)
    assert secret["type"] == "servicebinding.io/imago"
    assert is_ours(secret, ref_of(body))


@pytest.mark.parametrize("lost", ["label", "annotation", "other resource"])
def test_ours_means_label_and_annotation_and_never_an_owner_reference(lost: str) -> None:
    body, _, secret, _ = made()
    secret["metadata"]["ownerReferences"] = [{"uid": body["metadata"]["uid"]}]
    if lost == "label":
        del secret["metadata"]["labels"]
    elif lost == "annotation":
        del secret["metadata"]["annotations"]
    else:
        secret["metadata"]["annotations"]["imago.dev/client"] = "photos/another"
    assert not is_ours(secret, ref_of(body))


def test_every_patch_is_bound_to_the_version_that_was_read() -> None:
    body, spec, secret, key = made()
    patches = [
        build_next(secret, key, rotated="1"),
        build_promotion(secret, key),
        build_correction(secret, ref_of(body), spec, client=UUID(int=8), url="https://elsewhere"),
    ]
    assert [patch["metadata"]["resourceVersion"] for patch in patches if patch] == ["5", "5", "5"]


def test_what_a_secret_holds_is_never_shown_by_repr() -> None:
    _, _, secret, key = made()
    assert key.secret not in repr(held_in(secret))


def test_a_key_that_does_not_parse_counts_as_absent() -> None:
    _, _, secret, _ = made()
    for wrong in ("bm9wZQ==", "not base64", "/w=="):
        secret["data"]["next-api-key"] = wrong
        assert held_in(secret).upcoming is None


def test_a_secret_that_is_right_needs_no_correction_and_other_peoples_labels_stay() -> None:
    body, spec, secret, _ = made(apiKey={"secretTemplate": {"labels": {"team": "a"}}})
    secret["metadata"]["labels"]["theirs"] = "x"
    assert build_correction(secret, ref_of(body), spec, client=CLIENT, url="https://imago") is None
    del secret["metadata"]["labels"]["team"]
    patch = build_correction(secret, ref_of(body), spec, client=CLIENT, url="https://imago")
    assert patch is not None
    assert patch["metadata"]["labels"] == {"team": "a"}


def test_a_key_is_due_by_its_age_or_by_a_new_annotation_and_never_while_another_is_coming() -> None:
    _, spec, secret, key = made(apiKey={"rotation": {"interval": "90d"}})
    assert rotation_due(held_in(secret), spec, asked="1", issued_at=None, now=NOW) is None
    secret["data"]["api-key"] = secret["data"].pop("next-api-key")
    held = held_in(secret)
    old, young = NOW - timedelta(days=90), NOW - timedelta(days=89)
    assert rotation_due(held, spec, asked=None, issued_at=young, now=NOW) is None
    assert rotation_due(held, spec, asked=None, issued_at=old, now=NOW) == "its interval has passed"
    assert rotation_due(held, spec, asked="1", issued_at=young, now=NOW) is not None
    secret["metadata"]["annotations"]["imago.dev/rotated"] = "1"
    assert rotation_due(held_in(secret), spec, asked="1", issued_at=young, now=NOW) is None
    assert rotation_due(held_in(secret), spec, asked=None, issued_at=young, now=NOW) is None
    assert key.key_id


def test_keys_that_no_secret_holds_end_with_the_grace_and_those_that_end_sooner_are_left_alone() -> None:
    _, _, secret, key = made()
    secret["data"]["api-key"] = secret["data"].pop("next-api-key")
    states = {
        key.key_id: state(key.key_id),
        "forever0": state("forever0"),
        "soon0000": state("soon0000", expires=NOW + timedelta(hours=1)),
        "late0000": state("late0000", expires=NOW + timedelta(days=9)),
        "over0000": state("over0000", expires=NOW - timedelta(hours=1)),
        "revoked0": state("revoked0", revoked=NOW),
    }
    held = held_in(secret)
    assert outdated(states, held, grace=GRACE, now=NOW) == ["forever0", "late0000"]
    assert previous_expiry(states, held, NOW) == NOW + timedelta(days=9)
