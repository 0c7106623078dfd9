"""Cleans up after a deleted ImagoClient: deactivates or erases its client, and deletes Secrets and workers.

Nothing is created here, because a terminating namespace accepts no new objects.
"""

from imago.core.lanes.model import client_token
from imago.nats.streams import StreamConflict, StreamsUnavailable
from imago_operator.apis.imago_api import ApiRefused, ApiUnavailable, ClientOwned, ClientState
from imago_operator.apis.kubernetes import KubernetesRefused, Object, secret_path
from imago_operator.conditions import ConditionType, Reason, StatusUpdate, false_condition
from imago_operator.context import OperatorContext
from imago_operator.reconciler import dedicated_lane, key_rotation
from imago_operator.reconciler.key_rotation import SecretLookup
from imago_operator.reconciler.key_secret import is_managed
from imago_operator.reconciler.reconciliation import (
    Reconcile,
    ReconcileResult,
    read_resource,
    retry_conflicts,
    start_reconcile,
)
from imago_operator.reconciler.status import write_status
from imago_operator.resource import (
    ABANDON_ANNOTATION,
    PAUSED_ANNOTATION,
    InvalidSpec,
    ResourceRef,
    build_client,
    client_uuid,
    has_flag,
)

# How often the progress of an erasure is checked.
ERASURE_SECONDS = 3.0
PAUSED_SECONDS = 15.0

_ABANDON_HINT = f"To delete the resource without cleaning up, annotate it with {ABANDON_ANNOTATION}=true."


async def finalize(context: OperatorContext, ref: ResourceRef) -> ReconcileResult:
    """Clean up as far as possible now; the finalizer may be removed once the result is finished."""
    async with context.lock_for(ref):
        result = await retry_conflicts(lambda: _attempt(context, ref), exhausted=Reason.DELETING)
        if result.is_finished:
            context.forget(ref)
        return result


async def _attempt(context: OperatorContext, ref: ResourceRef) -> ReconcileResult:
    body = await read_resource(context, ref)
    if body is None:
        return ReconcileResult(Reason.DELETING)
    if has_flag(body, ABANDON_ANNOTATION):
        _emit_abandoned(context, body)
        return ReconcileResult(Reason.DELETING)
    update = StatusUpdate()
    result = await _finalize_body(context, ref, body, update)
    if not result.is_finished:
        await write_status(context, ref, body, update)
    return result


def _emit_abandoned(context: OperatorContext, body: Object) -> None:
    client = (body.get("status") or {}).get("clientId", "-")
    message = f"Deleted without cleaning up, as requested: client {client}, its Secret and its lane stay as they are."
    context.emit_event(body, warning=True, reason="Abandoned", message=message)


async def _finalize_body(
    context: OperatorContext, ref: ResourceRef, body: Object, update: StatusUpdate
) -> ReconcileResult:
    if has_flag(body, PAUSED_ANNOTATION):
        message = f"Deletion is paused while the annotation {PAUSED_ANNOTATION} is true."
        update.conditions[ConditionType.READY] = false_condition(Reason.PAUSED, message)
        return ReconcileResult(Reason.PAUSED, requeue_after=PAUSED_SECONDS)
    try:
        work = await start_reconcile(context, ref, body, update)
    except InvalidSpec as error:
        message = f"Invalid spec: {error}. {_ABANDON_HINT}"
        update.conditions[ConditionType.READY] = false_condition(Reason.API_REFUSED, message)
        return ReconcileResult(Reason.API_REFUSED, failed=True)
    try:
        waiting_for = await _clean_up(work)
    except ApiUnavailable as error:
        return _failed(update, Reason.API_UNAVAILABLE, f"Imago's API is unavailable: {error}.")
    except (ApiRefused, KubernetesRefused) as error:
        return _failed(update, Reason.API_REFUSED, f"The cleanup was rejected: {error}.")
    except (StreamsUnavailable, StreamConflict) as error:
        return _failed(update, Reason.NATS_UNAVAILABLE, f"The client's stream cannot be deleted: {error}.")
    if waiting_for is not None:
        update.conditions[ConditionType.READY] = false_condition(Reason.DELETING, waiting_for)
        return ReconcileResult(Reason.DELETING, requeue_after=work.requeue_after or ERASURE_SECONDS)
    return ReconcileResult(Reason.DELETING)


async def _clean_up(work: Reconcile) -> str | None:
    """Clean up; return a message about what is still in progress, or None once everything is done."""
    found = await _find_secret(work)
    work.client = client_uuid(work.body, found.keys.client_id if found.keys is not None else None)
    state = await work.context.api.get(work.client)
    if state is not None and state.owner == work.owner:
        try:
            waiting_for = await (_erase(work, state) if work.spec.erase else _retain(work, state))
        except ClientOwned:
            # The client was transferred just now: its new owner is responsible for it.
            waiting_for = None
        if waiting_for is not None:
            return waiting_for
    if dedicated_lane.may_exist(work) and not _has_other_owner(work, state):
        await dedicated_lane.remove(work)
    binding = work.status.get("binding") or {}
    for name in dict.fromkeys((work.spec.secret_name, binding.get("name"), *binding.get("previous", ()))):
        await _delete_secret(work, name)
    return None


def _has_other_owner(work: Reconcile, state: ClientState | None) -> bool:
    return state is not None and state.owner != work.owner


async def _erase(work: Reconcile, state: ClientState) -> str | None:
    if state.erasure is None:
        await work.context.api.erase(work.client, owner=work.owner)
        work.emit_event("Erasing", f"Erasing client {work.client} (spec.deletionPolicy is Delete).")
    work.requeue_within(ERASURE_SECONDS)
    progress = state.erasure or {}
    done, total = progress.get("images_erased", 0), progress.get("images_total", "?")
    return f"The client is being erased: {done} of {total} images. {_ABANDON_HINT}"


async def _retain(work: Reconcile, state: ClientState) -> str | None:
    if state.lane == client_token(work.client):
        # Workers of a shared lane finish the open jobs of the dedicated lane.
        body = build_client(work.spec, owner=work.owner, lane=None, active=False)
        state = await work.context.api.put(work.client, body)
    elif state.active:
        await work.context.api.deactivate(work.client, owner=work.owner)
    if dedicated_lane.may_exist(work):
        condition = await dedicated_lane.leave(work, lane_open=state.lane_open)
        work.update.conditions[ConditionType.STREAMS] = condition
        if condition.reason is Reason.LANE_DRAINING:
            return f"The client is deactivated. {condition.message}"
    work.emit_event(
        "Retained",
        f"Deactivated client {work.client} and kept its images. To use it again, create a resource of the same "
        f"namespace and name with spec.clientId: {work.client}",
    )
    return None


async def _find_secret(work: Reconcile) -> SecretLookup:
    try:
        return await key_rotation.find_secret(work)
    except KubernetesRefused:
        if await work.context.is_namespace_terminating(work.ref):
            return SecretLookup(None, None)
        raise


async def _delete_secret(work: Reconcile, name: str | None) -> None:
    if not name:
        return
    path = secret_path(work.ref.namespace, name)
    try:
        secret = await work.context.kubernetes.get(path)
        if secret is not None and is_managed(secret, work.ref):
            await work.context.kubernetes.delete(path, uid=secret["metadata"]["uid"])
    except KubernetesRefused:
        # The operator's Role and the Secret are deleted with the namespace.
        if not await work.context.is_namespace_terminating(work.ref):
            raise


def _failed(update: StatusUpdate, reason: Reason, message: str) -> ReconcileResult:
    message = f"{message} The operator retries automatically. {_ABANDON_HINT}"
    update.conditions[ConditionType.READY] = false_condition(reason, message)
    return ReconcileResult(reason, failed=True)
