"""The I/O around a client's keys: Secret, registration, rotation, and the end of keys of before.

Each write of the Secret is bound to the version that was read; on a conflict the whole pass begins anew, from what the
Secret holds then.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from imago.core.clients import keys
from imago.core.times import utc_now
from imago_operator import metrics
from imago_operator.conditions import Kind, Reason, bad, good, kubernetes_time
from imago_operator.credentials import (
    Held,
    KeyState,
    build_correction,
    build_next,
    build_promotion,
    build_secret,
    held_in,
    is_ours,
    outdated,
    previous_expiry,
    rotate_at,
    rotation_due,
)
from imago_operator.imago_api import ApiRefused, ClientState, KeyTaken
from imago_operator.kubernetes import Object, secret_path
from imago_operator.passes import Pass
from imago_operator.resource import ROTATE_ANNOTATION, annotation

# Ids are random in a space of 62^8; two in a row that are taken mean something else.
KEY_TRIES = 3
# As the schema bounds it.
MAX_PREVIOUS = 16


@dataclass(frozen=True, repr=False)
class Found:
    """The Secret of the name that is wanted: none, a stranger's, or ours with what it holds."""

    body: Object | None
    held: Held | None

    @property
    def foreign(self) -> bool:
        """Whether the Secret is somebody else's."""
        return self.body is not None and self.held is None


async def find_secret(work: Pass) -> Found:
    """Look for the Secret that the spec names."""
    body = await work.context.kubernetes.get(secret_path(work.ref.namespace, work.spec.secret_name))
    ours = body is not None and is_ours(body, work.ref)
    return Found(body, held_in(body) if body is not None and ours else None)


async def settle_keys(work: Pass, found: Found, state: ClientState) -> None:
    """Have exactly one key in the Secret, registered and opening, and let those of before end."""
    if found.foreign:
        work.outcome.findings[Kind.CREDENTIALS] = bad(
            Reason.SECRET_CONFLICT,
            f"Secret {work.spec.secret_name} is there and isn't this resource's, so it is left alone. Delete it, or "
            "name another in spec.apiKey.secretName.",
        )
        return
    try:
        secret = await _with_working_key(work, found.body, state.keys)
    except (KeyTaken, ApiRefused) as error:
        work.outcome.findings[Kind.CREDENTIALS] = bad(Reason.API_REFUSED, f"Imago refuses the key: {error}")
        return
    held = held_in(secret)
    await _end_old_keys(work, held, state.keys)
    previous = await _end_old_secrets(work, state.keys)
    _note(work, held, state.keys, previous)


async def _with_working_key(work: Pass, secret: Object | None, states: dict[str, KeyState]) -> Object:
    """Return the Secret once it holds a present key that Imago takes."""
    context, spec, ref = work.context, work.spec, work.ref
    asked, why = annotation(work.body, ROTATE_ANNOTATION), None
    if secret is None:
        why = "reissued" if work.status.get("binding", {}).get("name") == spec.secret_name else "issued"
        new = build_secret(
            ref, spec, client=work.client, url=context.settings.url, upcoming=keys.generate(), rotated=asked
        )
        secret = await context.kubernetes.create(secret_path(ref.namespace), new)
    correction = build_correction(secret, ref, spec, client=work.client, url=context.settings.url)
    if correction is not None:
        secret = await _patch(work, correction)
    held = held_in(secret)
    if held.current is None and held.upcoming is None:
        why = "reissued"
        secret = await _next(work, secret, asked)
    known = states.get(held.current.key_id) if held.current else None
    due = rotation_due(held, spec, asked=asked, issued_at=known.created_at if known else None, now=work.now)
    if due is None and held.current is not None and held.upcoming is None and not _sound(known):
        try:
            # Somebody took it back by hand, or the database was set back: the Secret's holders go on with the same key.
            states[held.current.key_id] = await context.api.register_key(work.client, held.current, owner=work.owner)
        except KeyTaken:
            due = "Imago doesn't take it any more"
    if due is not None:
        why = "rotated"
        secret = await _next(work, secret, asked)
    if held_in(secret).upcoming is not None:
        secret = await _promote(work, secret, states)
        _tell(work, held_in(secret), why or "issued", due)
    return secret


async def _promote(work: Pass, secret: Object, states: dict[str, KeyState]) -> Object:
    """Register the next key and make it the present one."""
    for _ in range(KEY_TRIES):
        held = held_in(secret)
        if held.upcoming is None:
            raise RuntimeError("no key to promote")
        try:
            state = await work.context.api.register_key(work.client, held.upcoming, owner=work.owner)
        except KeyTaken:
            secret = await _next(work, secret, held.rotated)
            continue
        states[state.key_id] = state
        return await _patch(work, build_promotion(secret, held.upcoming))
    raise KeyTaken("no key's id is free")


async def _end_old_keys(work: Pass, held: Held, states: dict[str, KeyState]) -> None:
    """Let keys expire that no Secret holds as its present one; at once where they are another owner's legacy."""
    grace, now = work.spec.grace, utc_now()
    for key_id in outdated(states, held, grace=grace, now=now):
        if work.binds:
            await work.context.api.revoke_key(work.client, key_id, owner=work.owner)
            states.pop(key_id)
        else:
            states[key_id] = await work.context.api.expire_key(work.client, key_id, now + grace, owner=work.owner)


async def _end_old_secrets(work: Pass, states: Mapping[str, KeyState]) -> list[str]:
    """Remove Secrets of earlier names whose key has ended; return the names of those that stay for now."""
    binding = work.status.get("binding") or {}
    names = [*binding.get("previous", ()), *([binding["name"]] if binding.get("name") else [])]
    staying = []
    for name in dict.fromkeys(names):
        if name == work.spec.secret_name:
            continue
        path = secret_path(work.ref.namespace, name)
        secret = await work.context.kubernetes.get(path)
        if secret is None or not is_ours(secret, work.ref):
            continue
        if _opens(held_in(secret), states, work.now):
            staying.append(name)
        else:
            await work.context.kubernetes.delete(path, uid=secret["metadata"]["uid"])
            work.tell("SecretRemoved", f"Secret {name} is removed: its key has ended.")
    return staying[-MAX_PREVIOUS:]


def _opens(held: Held, states: Mapping[str, KeyState], now: datetime) -> bool:
    state = states.get(held.current.key_id) if held.current else None
    return state is not None and state.opens(now)


def _sound(state: KeyState | None) -> bool:
    return state is not None and state.expires_at is None and state.revoked_at is None


def _note(work: Pass, held: Held, states: Mapping[str, KeyState], previous: list[str]) -> None:
    if held.current is None:
        raise RuntimeError("the Secret holds no key after all")
    spec, state = work.spec, states[held.current.key_id]
    until, at = previous_expiry(states, held, work.now), rotate_at(spec, state.created_at)
    work.outcome.facts["apiKey"] = _present(
        keyId=held.current.key_id,
        issuedAt=kubernetes_time(state.created_at),
        rotateAt=kubernetes_time(at) if at else None,
        previousExpiresAt=kubernetes_time(until) if until else None,
    )
    work.outcome.facts["binding"] = _present(name=spec.secret_name, previous=previous or None)
    message = f"Key {held.current.key_id} is in Secret {spec.secret_name}"
    work.outcome.findings[Kind.CREDENTIALS] = (
        good(f"{message}; the one before opens until {kubernetes_time(until)}.", Reason.ROTATING)
        if until
        else good(f"{message}.")
    )


def _tell(work: Pass, held: Held, why: str, due: str | None) -> None:
    metrics.KEYS_ISSUED.labels(why).inc()
    where = f"key {held.current.key_id if held.current else '-'} is in Secret {work.spec.secret_name}."
    if why == "rotated":
        work.tell("KeyRotated", f"The key was replaced, for {due}: {where} The one before opens for its grace period.")
    elif why == "reissued":
        work.tell("KeyReissued", f"The Secret or its key was gone: {where}", warning=True)
    else:
        work.tell("KeyIssued", f"K{where[1:]}")


async def _next(work: Pass, secret: Object, rotated: str | None) -> Object:
    return await _patch(work, build_next(secret, keys.generate(), rotated=rotated))


async def _patch(work: Pass, patch: Object) -> Object:
    return await work.context.kubernetes.patch(secret_path(work.ref.namespace, work.spec.secret_name), patch)


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
