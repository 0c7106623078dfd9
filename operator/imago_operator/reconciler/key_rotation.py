"""Issues and rotates a client's key: Secret, registration with Imago, and the expiry of previous keys.

Each write of the Secret is bound to the version that was read; after a conflict the whole reconciliation starts again
from what the Secret contains then.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from imago.core.clients import keys
from imago.core.times import utc_now
from imago_operator import metrics
from imago_operator.apis.imago_api import ApiRefused, ClientState, KeyTaken, RegisteredKey
from imago_operator.apis.kubernetes import Object, secret_path
from imago_operator.conditions import ConditionType, Reason, false_condition, kubernetes_time, true_condition
from imago_operator.reconciler.key_secret import (
    SecretKeys,
    build_correction_patch,
    build_next_key_patch,
    build_promotion_patch,
    build_secret,
    is_managed,
    keys_to_expire,
    previous_keys_expiry,
    read_keys,
    rotation_cause,
    rotation_time,
)
from imago_operator.reconciler.reconciliation import Reconcile
from imago_operator.resource import ROTATE_ANNOTATION, annotation

# Ids are random in a space of 62^8: more than one that is taken points to another cause.
KEY_ATTEMPTS = 3
# The schema's maximum for status.binding.previous.
MAX_PREVIOUS = 16

ISSUED, REISSUED, ROTATED = "issued", "reissued", "rotated"


@dataclass(frozen=True, repr=False)
class SecretLookup:
    """The Secret of the name in the spec: missing, not managed by this resource, or managed, with its keys."""

    body: Object | None
    keys: SecretKeys | None

    @property
    def is_foreign(self) -> bool:
        """Whether the Secret exists and is not managed by this resource."""
        return self.body is not None and self.keys is None


async def find_secret(work: Reconcile) -> SecretLookup:
    """Look up the Secret that the spec names."""
    body = await work.context.kubernetes.get(secret_path(work.ref.namespace, work.spec.secret_name))
    managed = body is not None and is_managed(body, work.ref)
    return SecretLookup(body, read_keys(body) if body is not None and managed else None)


async def ensure_key(work: Reconcile, secret: SecretLookup, state: ClientState) -> None:
    """Make the Secret contain exactly one valid, registered key, and let previous keys expire."""
    if secret.is_foreign:
        work.update.conditions[ConditionType.CREDENTIALS] = false_condition(
            Reason.SECRET_CONFLICT,
            f"Secret {work.spec.secret_name} exists and is not managed by this resource. Delete the Secret, or set "
            "spec.apiKey.secretName to another name.",
        )
        return
    try:
        body = await _ensure_current_key(work, secret.body, state.keys)
    except (KeyTaken, ApiRefused) as error:
        work.update.conditions[ConditionType.CREDENTIALS] = false_condition(
            Reason.API_REFUSED, f"Imago rejected the key: {error}"
        )
        return
    stored = read_keys(body)
    await _expire_previous_keys(work, stored, state.keys)
    previous = await _delete_previous_secrets(work, state.keys)
    _record(work, stored, state.keys, previous)


async def _ensure_current_key(work: Reconcile, secret: Object | None, registered: dict[str, RegisteredKey]) -> Object:
    """Return the Secret once its current key is registered and valid."""
    reason, request = ISSUED, annotation(work.body, ROTATE_ANNOTATION)
    if secret is None:
        reason = REISSUED if work.status.get("binding", {}).get("name") == work.spec.secret_name else ISSUED
        secret = await _create_secret(work, request)
    correction = build_correction_patch(secret, work.ref, work.spec, client=work.client, url=work.context.settings.url)
    if correction is not None:
        secret = await _patch(work, correction)
    stored = read_keys(secret)
    if stored.current is None and stored.upcoming is None:
        reason = REISSUED
        secret = await _add_next_key(work, secret, request)
    cause = await _rotation_cause(work, stored, registered, request)
    if cause is not None:
        reason = ROTATED
        secret = await _add_next_key(work, secret, request)
    if read_keys(secret).upcoming is not None:
        secret = await _promote(work, secret, registered)
        _emit_key_event(work, read_keys(secret), reason, cause)
    return secret


async def _create_secret(work: Reconcile, request: str | None) -> Object:
    secret = build_secret(
        work.ref,
        work.spec,
        client=work.client,
        url=work.context.settings.url,
        upcoming=keys.generate(),
        rotation_request=request,
    )
    return await work.context.kubernetes.create(secret_path(work.ref.namespace), secret)


async def _rotation_cause(
    work: Reconcile, stored: SecretKeys, registered: dict[str, RegisteredKey], request: str | None
) -> str | None:
    """Return why the current key has to be replaced, None if it is valid; register it again if Imago lost it."""
    known = registered.get(stored.current.key_id) if stored.current else None
    cause = rotation_cause(
        stored, work.spec, request=request, issued_at=known.created_at if known else None, now=work.now
    )
    if cause is None and stored.current is not None and stored.upcoming is None and not _is_endless(known):
        try:
            # An administrator removed the key, or the database was restored: the Secret's readers keep their key.
            registered[stored.current.key_id] = await work.context.api.register_key(
                work.client, stored.current, owner=work.owner
            )
        except KeyTaken:
            cause = "no longer accepted by Imago"
    return cause


async def _promote(work: Reconcile, secret: Object, registered: dict[str, RegisteredKey]) -> Object:
    """Register the next key and make it the current one."""
    for _ in range(KEY_ATTEMPTS):
        stored = read_keys(secret)
        if stored.upcoming is None:
            raise RuntimeError("the Secret contains no next key")
        try:
            key = await work.context.api.register_key(work.client, stored.upcoming, owner=work.owner)
        except KeyTaken:
            secret = await _add_next_key(work, secret, stored.rotation_request)
            continue
        registered[key.key_id] = key
        return await _patch(work, build_promotion_patch(secret, stored.upcoming))
    raise KeyTaken(f"{KEY_ATTEMPTS} generated key ids are in use")


async def _expire_previous_keys(work: Reconcile, stored: SecretKeys, registered: dict[str, RegisteredKey]) -> None:
    """Let keys expire that are not in the Secret; revoke them if they may belong to the client's previous owner."""
    grace, now = work.spec.grace, utc_now()
    for key_id in keys_to_expire(registered, stored, grace=grace, now=now):
        if work.is_first_binding:
            await work.context.api.revoke_key(work.client, key_id, owner=work.owner)
            registered.pop(key_id)
        else:
            registered[key_id] = await work.context.api.expire_key(work.client, key_id, now + grace, owner=work.owner)


async def _delete_previous_secrets(work: Reconcile, registered: Mapping[str, RegisteredKey]) -> list[str]:
    """Delete Secrets of previous names whose key is no longer valid; return the names of the others."""
    binding = work.status.get("binding") or {}
    names = [*binding.get("previous", ()), *([binding["name"]] if binding.get("name") else [])]
    kept = []
    for name in dict.fromkeys(names):
        if name == work.spec.secret_name:
            continue
        path = secret_path(work.ref.namespace, name)
        secret = await work.context.kubernetes.get(path)
        if secret is None or not is_managed(secret, work.ref):
            continue
        if _is_current_valid(read_keys(secret), registered, work.now):
            kept.append(name)
        else:
            await work.context.kubernetes.delete(path, uid=secret["metadata"]["uid"])
            work.emit_event("SecretRemoved", f"Deleted Secret {name}: its key is no longer valid.")
    return kept[-MAX_PREVIOUS:]


def _is_current_valid(stored: SecretKeys, registered: Mapping[str, RegisteredKey], now: datetime) -> bool:
    key = registered.get(stored.current.key_id) if stored.current else None
    return key is not None and key.is_valid(now)


def _is_endless(key: RegisteredKey | None) -> bool:
    return key is not None and key.expires_at is None and key.revoked_at is None


def _record(work: Reconcile, stored: SecretKeys, registered: Mapping[str, RegisteredKey], previous: list[str]) -> None:
    if stored.current is None:
        raise RuntimeError("the Secret contains no current key")
    spec, key = work.spec, registered[stored.current.key_id]
    expiry, rotate_at = previous_keys_expiry(registered, stored, work.now), rotation_time(spec, key.created_at)
    work.update.fields["apiKey"] = _present(
        keyId=key.key_id,
        issuedAt=kubernetes_time(key.created_at),
        rotateAt=kubernetes_time(rotate_at) if rotate_at else None,
        previousExpiresAt=kubernetes_time(expiry) if expiry else None,
    )
    work.update.fields["binding"] = _present(name=spec.secret_name, previous=previous or None)
    message = f"Secret {spec.secret_name} contains key {key.key_id}"
    work.update.conditions[ConditionType.CREDENTIALS] = (
        true_condition(f"{message}; previous keys stay valid until {kubernetes_time(expiry)}.", Reason.ROTATING)
        if expiry
        else true_condition(f"{message}.")
    )


def _emit_key_event(work: Reconcile, stored: SecretKeys, reason: str, cause: str | None) -> None:
    metrics.KEYS_ISSUED.labels(reason).inc()
    key = f"key {stored.current.key_id if stored.current else '-'} in Secret {work.spec.secret_name}"
    if reason == ROTATED:
        work.emit_event("KeyRotated", f"Rotated to {key} ({cause}); the previous key stays valid for the grace period.")
    elif reason == REISSUED:
        work.emit_event("KeyReissued", f"Issued {key}, because the Secret or its key was missing.", warning=True)
    else:
        work.emit_event("KeyIssued", f"Issued {key}.")


async def _add_next_key(work: Reconcile, secret: Object, request: str | None) -> Object:
    return await _patch(work, build_next_key_patch(secret, keys.generate(), rotation_request=request))


async def _patch(work: Reconcile, patch: Object) -> Object:
    return await work.context.kubernetes.patch(secret_path(work.ref.namespace, work.spec.secret_name), patch)


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
