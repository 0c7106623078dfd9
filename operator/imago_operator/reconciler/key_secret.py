"""The Secret with a client's key: whether the operator manages it, what it contains, and the patches that change it.

A new key is written to the Secret as `next-api-key` before its digest is registered with Imago, and becomes `api-key`
afterwards (ADR 5). The next reconciliation continues from what the Secret contains, so a crash between two steps, or a
second operator, registers the same key again and no other.
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
from imago_operator.apis.imago_api import RegisteredKey
from imago_operator.resource import CLIENT_ANNOTATION, CLIENT_ID_LABEL, Body, ClientSpec, ResourceRef

# The Secret type of the Service Binding specification.
SECRET_TYPE = "servicebinding.io/imago"  # noqa: S105 - the name of a type
ROTATED_ANNOTATION = "imago.dev/rotated"

CURRENT, NEXT, CLIENT_ID, URL = "api-key", "next-api-key", "client-id", "url"


@dataclass(frozen=True, repr=False)
class SecretKeys:
    """The contents of a managed Secret; an unparsable key counts as missing. No repr, because it would show keys."""

    client_id: UUID | None
    current: ApiKey | None
    upcoming: ApiKey | None
    rotation_request: str | None
    """The value of the annotation `imago.dev/rotate` that was handled last."""


def is_managed(secret: Body, ref: ResourceRef) -> bool:
    """Return whether the Secret belongs to this resource: by label and annotation, as restores drop ownerReferences."""
    metadata = secret["metadata"]
    labelled = CLIENT_ID_LABEL in (metadata.get("labels") or {})
    return labelled and (metadata.get("annotations") or {}).get(CLIENT_ANNOTATION) == str(ref)


def read_keys(secret: Body) -> SecretKeys:
    """Return the contents of a managed Secret."""
    data = secret.get("data") or {}
    return SecretKeys(
        client_id=_uuid(_decoded(data, CLIENT_ID)),
        current=_key(data, CURRENT),
        upcoming=_key(data, NEXT),
        rotation_request=(secret["metadata"].get("annotations") or {}).get(ROTATED_ANNOTATION),
    )


def build_secret(
    ref: ResourceRef, spec: ClientSpec, *, client: UUID, url: str, upcoming: ApiKey, rotation_request: str | None
) -> dict[str, Any]:
    """Build a new Secret with a key that is not registered yet."""
    annotations = _annotations(ref, spec)
    if rotation_request is not None:
        annotations[ROTATED_ANNOTATION] = rotation_request
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


def build_next_key_patch(secret: Body, upcoming: ApiKey, *, rotation_request: str | None) -> dict[str, Any]:
    """Build the patch that adds the next key and records which rotation request it handles."""
    annotations = {ROTATED_ANNOTATION: rotation_request}
    return _versioned(secret, {"metadata": {"annotations": annotations}, "data": {NEXT: _encoded(upcoming.reveal())}})


def build_promotion_patch(secret: Body, upcoming: ApiKey) -> dict[str, Any]:
    """Build the patch that makes the next key, once registered, the current one."""
    return _versioned(secret, {"data": {CURRENT: _encoded(upcoming.reveal()), NEXT: None}})


def build_correction_patch(
    secret: Body, ref: ResourceRef, spec: ClientSpec, *, client: UUID, url: str
) -> dict[str, Any] | None:
    """Build the patch that corrects labels, annotations, client id and URL; None if they are correct."""
    metadata, data = secret["metadata"], secret.get("data") or {}
    labels = _differing(metadata.get("labels"), _labels(spec, client))
    annotations = _differing(metadata.get("annotations"), _annotations(ref, spec))
    values = _differing(data, {CLIENT_ID: _encoded(str(client)), URL: _encoded(url)})
    if not labels and not annotations and not values:
        return None
    return _versioned(secret, {"metadata": {"labels": labels, "annotations": annotations}, "data": values})


def rotation_cause(
    stored: SecretKeys, spec: ClientSpec, *, request: str | None, issued_at: datetime | None, now: datetime
) -> str | None:
    """Return why the current key has to be rotated, as a phrase for an Event; None if it has not."""
    if stored.current is None or stored.upcoming is not None:
        return None
    if request is not None and request != stored.rotation_request:
        return "requested by annotation"
    at = rotation_time(spec, issued_at)
    return "rotation interval elapsed" if at is not None and at <= now else None


def rotation_time(spec: ClientSpec, issued_at: datetime | None) -> datetime | None:
    """Return when a key is rotated automatically."""
    return None if spec.interval is None or issued_at is None else issued_at + spec.interval


def keys_to_expire(
    registered: Mapping[str, RegisteredKey], stored: SecretKeys, *, grace: timedelta, now: datetime
) -> list[str]:
    """Return the ids of keys that are not in the Secret and would stay valid longer than the grace period."""
    kept = {key.key_id for key in (stored.current, stored.upcoming) if key is not None}
    return [
        key.key_id
        for key in registered.values()
        if key.key_id not in kept and key.is_valid(now) and (key.expires_at is None or key.expires_at > now + grace)
    ]


def previous_keys_expiry(registered: Mapping[str, RegisteredKey], stored: SecretKeys, now: datetime) -> datetime | None:
    """Return when the last of the previous keys expires; None if none is valid."""
    current = stored.current.key_id if stored.current else None
    times = [
        key.expires_at
        for key in registered.values()
        if key.key_id != current and key.expires_at is not None and key.is_valid(now)
    ]
    return max(times, default=None)


def _labels(spec: ClientSpec, client: UUID) -> dict[str, str]:
    return {**spec.secret_labels, CLIENT_ID_LABEL: str(client)}


def _annotations(ref: ResourceRef, spec: ClientSpec) -> dict[str, str]:
    return {**spec.secret_annotations, CLIENT_ANNOTATION: str(ref)}


def _differing(present: Mapping[str, str] | None, expected: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in expected.items() if (present or {}).get(name) != value}


def _versioned(secret: Body, patch: dict[str, Any]) -> dict[str, Any]:
    """Bind a patch to the version it was made from: the API server rejects it (409) for any other version."""
    metadata = {**patch.get("metadata", {}), "resourceVersion": secret["metadata"]["resourceVersion"]}
    return {**patch, "metadata": metadata}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decoded(data: Mapping[str, str], name: str) -> str:
    try:
        return base64.b64decode(data.get(name) or "", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _key(data: Mapping[str, str], name: str) -> ApiKey | None:
    return keys.parse(_decoded(data, name).strip())


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
