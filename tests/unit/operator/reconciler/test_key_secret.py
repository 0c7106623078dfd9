"""The Secret with a key: whether it is managed, and the patches of each step."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from imago.core.clients import keys
from imago_operator.apis.imago_api import RegisteredKey
from imago_operator.reconciler.key_secret import (
    build_correction_patch,
    build_next_key_patch,
    build_promotion_patch,
    build_secret,
    is_managed,
    keys_to_expire,
    previous_keys_expiry,
    read_keys,
    rotation_cause,
)
from imago_operator.resource import read_spec, ref_of
from tests.support.operator_fakes import resource

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
CLIENT = UUID(int=7)
GRACE = timedelta(hours=24)


def built(**spec: Any) -> tuple[Any, Any, Any, keys.ApiKey]:
    body, key = resource("atelier", **spec), keys.generate()
    secret = build_secret(
        ref_of(body), read_spec(body), client=CLIENT, url="https://imago", upcoming=key, rotation_request=None
    )
    secret["metadata"]["resourceVersion"] = "5"
    return body, read_spec(body), secret, key


def registered(key_id: str, *, expires: datetime | None = None, revoked: datetime | None = None) -> RegisteredKey:
    return RegisteredKey(key_id, NOW - timedelta(days=1), expires, revoked)


def test_a_new_secret_contains_a_next_key_to_register() -> None:
    body, _, secret, key = built()
    stored = read_keys(secret)
    assert (stored.current, stored.upcoming, stored.client_id) == (None, key, CLIENT)
    assert secret["type"] == "servicebinding.io/imago"
    assert is_managed(secret, ref_of(body))


@pytest.mark.parametrize("lost", ["label", "annotation", "other resource"])
def test_a_secret_is_managed_by_label_and_annotation_not_by_owner_reference(lost: str) -> None:
    body, _, secret, _ = built()
    secret["metadata"]["ownerReferences"] = [{"uid": body["metadata"]["uid"]}]
    if lost == "label":
        del secret["metadata"]["labels"]
    elif lost == "annotation":
        del secret["metadata"]["annotations"]
    else:
        secret["metadata"]["annotations"]["imago.dev/client"] = "photos/another"
    assert not is_managed(secret, ref_of(body))


def test_every_patch_is_bound_to_the_version_that_was_read() -> None:
    body, spec, secret, key = built()
    patches = [
        build_next_key_patch(secret, key, rotation_request="1"),
        build_promotion_patch(secret, key),
        build_correction_patch(secret, ref_of(body), spec, client=UUID(int=8), url="https://elsewhere"),
    ]
    assert [patch["metadata"]["resourceVersion"] for patch in patches if patch] == ["5", "5", "5"]


def test_repr_shows_no_key() -> None:
    _, _, secret, key = built()
    assert key.secret not in repr(read_keys(secret))


def test_a_key_that_cannot_be_parsed_counts_as_missing() -> None:
    _, _, secret, _ = built()
    for wrong in ("bm9wZQ==", "not base64", "/w=="):
        secret["data"]["next-api-key"] = wrong
        assert read_keys(secret).upcoming is None


def test_a_correct_secret_needs_no_patch_and_labels_of_others_stay() -> None:
    body, spec, secret, _ = built(apiKey={"secretTemplate": {"labels": {"team": "a"}}})
    secret["metadata"]["labels"]["theirs"] = "x"
    assert build_correction_patch(secret, ref_of(body), spec, client=CLIENT, url="https://imago") is None
    del secret["metadata"]["labels"]["team"]
    patch = build_correction_patch(secret, ref_of(body), spec, client=CLIENT, url="https://imago")
    assert patch is not None
    assert patch["metadata"]["labels"] == {"team": "a"}


def test_a_key_is_rotated_by_age_or_by_a_new_annotation_unless_a_next_key_exists() -> None:
    _, spec, secret, key = built(apiKey={"rotation": {"interval": "90d"}})
    assert rotation_cause(read_keys(secret), spec, request="1", issued_at=None, now=NOW) is None
    secret["data"]["api-key"] = secret["data"].pop("next-api-key")
    stored = read_keys(secret)
    old, young = NOW - timedelta(days=90), NOW - timedelta(days=89)
    assert rotation_cause(stored, spec, request=None, issued_at=young, now=NOW) is None
    assert rotation_cause(stored, spec, request=None, issued_at=old, now=NOW) == "rotation interval elapsed"
    assert rotation_cause(stored, spec, request="1", issued_at=young, now=NOW) is not None
    secret["metadata"]["annotations"]["imago.dev/rotated"] = "1"
    assert rotation_cause(read_keys(secret), spec, request="1", issued_at=young, now=NOW) is None
    assert rotation_cause(read_keys(secret), spec, request=None, issued_at=young, now=NOW) is None
    assert key.key_id


def test_keys_outside_the_secret_expire_with_the_grace_period_unless_they_expire_sooner() -> None:
    _, _, secret, key = built()
    secret["data"]["api-key"] = secret["data"].pop("next-api-key")
    known = {
        key.key_id: registered(key.key_id),
        "forever0": registered("forever0"),
        "soon0000": registered("soon0000", expires=NOW + timedelta(hours=1)),
        "late0000": registered("late0000", expires=NOW + timedelta(days=9)),
        "over0000": registered("over0000", expires=NOW - timedelta(hours=1)),
        "revoked0": registered("revoked0", revoked=NOW),
    }
    stored = read_keys(secret)
    assert keys_to_expire(known, stored, grace=GRACE, now=NOW) == ["forever0", "late0000"]
    assert previous_keys_expiry(known, stored, NOW) == NOW + timedelta(days=9)
