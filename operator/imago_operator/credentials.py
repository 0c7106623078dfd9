"""The Secret with a client's key: whose it is, what it holds, and how it is written, one step at a time.

The order is what keeps keys from being lost (KUBERNETES.md, "Secret first"): a new key stands in the Secret as
`next-api-key` before its digest is registered, and becomes `api-key` only afterwards. Whoever finds a Secret goes on
from what it holds, so a crash between any two steps, or a second operator, registers the same key again and no other.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from imago.core.clients import keys
from imago.core.clients.keys import ApiKey
from imago_operator.resource import CLIENT_ANNOTATION, CLIENT_ID_LABEL, Body, ClientSpec, Ref

# The type that the Service Binding specification gives Secrets of a provider.
SECRET_TYPE = "servicebinding.io/imago"  # noqa: S105 - a type's name
ROTATED_ANNOTATION = "imago.dev/rotated"

CURRENT, NEXT, CLIENT_ID, URL = "api-key", "next-api-key", "client-id", "url"


@dataclass(frozen=True, repr=False)
class Held:
    """What a Secret of ours holds; a key that doesn't parse counts as absent. There is no repr that shows keys."""

    client_id: UUID | None
    current: ApiKey | None
    upcoming: ApiKey | None
    rotated: str | None


@dataclass(frozen=True)
class KeyState:
    """A key as Imago has it: nothing of it is secret."""

    key_id: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def opens(self, now: datetime) -> bool:
        """Tell whether the key opens anything at this moment."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


def is_ours(secret: Body, ref: Ref) -> bool:
    """Tell whether the Secret is this resource's: by label and annotation, since restores lose ownerReferences."""
    metadata = secret["metadata"]
    labelled = CLIENT_ID_LABEL in (metadata.get("labels") or {})
    return labelled and (metadata.get("annotations") or {}).get(CLIENT_ANNOTATION) == str(ref)


def held_in(secret: Body) -> Held:
    """Return what a Secret of ours holds."""
    data = secret.get("data") or {}
    current, upcoming = _key(data, CURRENT), _key(data, NEXT)
    return Held(
        client_id=_uuid(_text(data, CLIENT_ID)),
        current=current,
        upcoming=upcoming,
        rotated=(secret["metadata"].get("annotations") or {}).get(ROTATED_ANNOTATION),
    )


def build_secret(
    ref: Ref, spec: ClientSpec, *, client: UUID, url: str, upcoming: ApiKey, rotated: str | None
) -> dict[str, Any]:
    """Build a new Secret, which holds a key that is yet to be registered."""
    annotations = _annotations(ref, spec)
    if rotated is not None:
        annotations[ROTATED_ANNOTATION] = rotated
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": SECRET_TYPE,
        "metadata": {
            "name": spec.secret_name,
            "namespace": ref.namespace,
            "labels": _labels(spec, client),
            "annotations": annotations,
        },
        "data": {NEXT: _encoded(upcoming.reveal()), CLIENT_ID: _encoded(str(client)), URL: _encoded(url)},
    }


def build_next(secret: Body, upcoming: ApiKey, *, rotated: str | None) -> dict[str, Any]:
    """Build the patch that puts a key beside the present one, and notes which `rotate` it answers."""
    annotations = {ROTATED_ANNOTATION: rotated}
    return _versioned(secret, {"metadata": {"annotations": annotations}, "data": {NEXT: _encoded(upcoming.reveal())}})


def build_promotion(secret: Body, upcoming: ApiKey) -> dict[str, Any]:
    """Build the patch that makes the next key, registered by now, the present one."""
    return _versioned(secret, {"data": {CURRENT: _encoded(upcoming.reveal()), NEXT: None}})


def build_correction(secret: Body, ref: Ref, spec: ClientSpec, *, client: UUID, url: str) -> dict[str, Any] | None:
    """Build the patch that sets right whatever else the Secret should carry; None where nothing is wrong."""
    metadata, data = secret["metadata"], secret.get("data") or {}
    labels = _differing(metadata.get("labels"), _labels(spec, client))
    annotations = _differing(metadata.get("annotations"), _annotations(ref, spec))
    values = _differing(data, {CLIENT_ID: _encoded(str(client)), URL: _encoded(url)})
    if not labels and not annotations and not values:
        return None
    return _versioned(secret, {"metadata": {"labels": labels, "annotations": annotations}, "data": values})


def rotation_due(
    held: Held, spec: ClientSpec, *, asked: str | None, issued_at: datetime | None, now: datetime
) -> str | None:
    """Return why the present key has to be replaced, in words; None where it hasn't."""
    if held.current is None or held.upcoming is not None:
        return None
    if asked is not None and asked != held.rotated:
        return "it was asked for by annotation"
    at = rotate_at(spec, issued_at)
    return "its interval has passed" if at is not None and at <= now else None


def rotate_at(spec: ClientSpec, issued_at: datetime | None) -> datetime | None:
    """Return when a key will be replaced by itself."""
    return None if spec.interval is None or issued_at is None else issued_at + spec.interval


def outdated(states: Mapping[str, KeyState], held: Held, *, grace: timedelta, now: datetime) -> list[str]:
    """Return the ids of keys that are in no Secret any more and would go on opening longer than the grace."""
    kept = {key.key_id for key in (held.current, held.upcoming) if key is not None}
    return [
        state.key_id
        for state in states.values()
        if state.key_id not in kept
        and state.opens(now)
        and (state.expires_at is None or state.expires_at > now + grace)
    ]


def previous_expiry(states: Mapping[str, KeyState], held: Held, now: datetime) -> datetime | None:
    """Return until when the last of the keys of before opens; None where none does."""
    current = held.current.key_id if held.current else None
    times = [
        state.expires_at
        for state in states.values()
        if state.key_id != current and state.expires_at is not None and state.opens(now)
    ]
    return max(times, default=None)


def _labels(spec: ClientSpec, client: UUID) -> dict[str, str]:
    return {**spec.secret_labels, CLIENT_ID_LABEL: str(client)}


def _annotations(ref: Ref, spec: ClientSpec) -> dict[str, str]:
    return {**spec.secret_annotations, CLIENT_ANNOTATION: str(ref)}


def _differing(present: Mapping[str, str] | None, wanted: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in wanted.items() if (present or {}).get(name) != value}


def _versioned(secret: Body, patch: dict[str, Any]) -> dict[str, Any]:
    """Bind a patch to the version that it was made from: the API server refuses it (409) on any other."""
    metadata = {**patch.get("metadata", {}), "resourceVersion": secret["metadata"]["resourceVersion"]}
    return {**patch, "metadata": metadata}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _text(data: Mapping[str, str], name: str) -> str:
    try:
        return base64.b64decode(data.get(name) or "", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _key(data: Mapping[str, str], name: str) -> ApiKey | None:
    return keys.parse(_text(data, name).strip())


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
