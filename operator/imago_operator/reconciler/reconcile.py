"""Reconciles an ImagoClient: idempotent, and safe to repeat after a crash at any point.

Change handlers and timers both call `reconcile()`. It reads the resource, its Secret and its client, makes the missing
changes, writes `status`, and returns when to reconcile again.
"""

from imago.core.lanes.model import DEDICATED, PREMIUM, client_token, lane_label
from imago.nats.streams import StreamConflict, StreamsUnavailable
from imago_operator.apis.imago_api import ApiRefused, ApiUnavailable, ClientOwned, ClientState
from imago_operator.apis.kubernetes import KubernetesRefused, Object
from imago_operator.conditions import (
    FALSE,
    UNKNOWN,
    Condition,
    ConditionType,
    Reason,
    StatusUpdate,
    build_usage,
    derive_ready,
    false_condition,
    find_condition,
    true_condition,
)
from imago_operator.context import OperatorContext
from imago_operator.reconciler import dedicated_lane, key_rotation
from imago_operator.reconciler.reconciliation import (
    Reconcile,
    ReconcileResult,
    read_resource,
    retry_conflicts,
    start_reconcile,
)
from imago_operator.reconciler.status import write_status
from imago_operator.reconciler.workers import TemplatesInvalid
from imago_operator.resource import PAUSED_ANNOTATION, InvalidSpec, ResourceRef, build_client, client_uuid, has_flag


async def reconcile(context: OperatorContext, ref: ResourceRef) -> ReconcileResult:
    """Make Secret, client and lane match the resource; raise KubernetesUnavailable."""
    async with context.lock_for(ref):
        return await retry_conflicts(lambda: _attempt(context, ref), exhausted=Reason.KUBERNETES_REFUSED)


async def _attempt(context: OperatorContext, ref: ResourceRef) -> ReconcileResult:
    body = await read_resource(context, ref)
    if body is None or "deletionTimestamp" in body["metadata"]:
        # `finalize()` handles deletions.
        return ReconcileResult()
    update = StatusUpdate()
    result = await _reconcile_body(context, ref, body, update)
    await write_status(context, ref, body, update)
    return result


async def _reconcile_body(
    context: OperatorContext, ref: ResourceRef, body: Object, update: StatusUpdate
) -> ReconcileResult:
    if has_flag(body, PAUSED_ANNOTATION):
        update.conditions[ConditionType.READY] = _paused(body)
        return ReconcileResult(Reason.PAUSED)
    try:
        work = await start_reconcile(context, ref, body, update)
    except InvalidSpec as error:
        update.conditions[ConditionType.READY] = false_condition(Reason.API_REFUSED, f"Invalid spec: {error}.")
        return ReconcileResult(Reason.API_REFUSED)
    try:
        await _apply_spec(work)
    except ApiUnavailable as error:
        message = f"Imago's API is unavailable: {error}. Nothing was changed; the operator retries automatically."
        _mark_unknown(update, body, message)
        update.conditions[ConditionType.READY] = false_condition(Reason.API_UNAVAILABLE, message)
        return ReconcileResult(Reason.API_UNAVAILABLE, failed=True)
    except KubernetesRefused as error:
        update.conditions[ConditionType.CREDENTIALS] = false_condition(
            Reason.KUBERNETES_REFUSED,
            f"Kubernetes rejected a request for the Secret: {error}. Check the operator's Roles.",
        )
    ready = derive_ready(update.conditions, suspended=work.spec.suspended)
    update.conditions[ConditionType.READY] = ready
    return ReconcileResult(ready.reason, requeue_after=work.requeue_after)


async def _apply_spec(work: Reconcile) -> None:
    secret = await key_rotation.find_secret(work)
    work.client = client_uuid(work.body, secret.keys.client_id if secret.keys is not None else None)
    state = await _apply_client(work)
    if state is None:
        return
    state = await _apply_lane(work, state)
    work.update.conditions[ConditionType.QUOTA] = true_condition("Plan, limits, scopes and pipeline are applied.")
    work.update.fields |= {
        "clientId": str(work.client),
        "lane": lane_label(state.lane),
        "usage": build_usage(work.status.get("usage"), state.usage, work.now),
    }
    await key_rotation.ensure_key(work, secret, state)


async def _apply_client(work: Reconcile) -> ClientState | None:
    """Create or update the client; return None after recording why the resource may not have it."""
    transfer = f"imago client transfer {work.client} {work.owner}"
    try:
        return await _put_client(work)
    except ClientOwned:
        _reject(
            work,
            Reason.CLIENT_OWNED,
            f"Client {work.client} belongs to another owner. To transfer it to this resource, an administrator runs: "
            f"{transfer}",
        )
    except _NotAdoptable:
        _reject(
            work,
            Reason.ADOPTION_REFUSED,
            f"Client {work.client} cannot be adopted: it does not exist, or another owner uses it. To transfer it to "
            f"this resource, an administrator runs: {transfer}",
        )
    except ApiRefused as error:
        _reject(work, Reason.API_REFUSED, f"Imago rejected the client: {error}")
    return None


class _NotAdoptable(Exception):
    """The client in `spec.clientId` does not exist or is active elsewhere; which of the two is not disclosed."""


async def _put_client(work: Reconcile) -> ClientState:
    """Create or update the client, in the lane that it can use immediately."""
    context, spec = work.context, work.spec
    if spec.client_id is not None and work.is_first_binding:
        found = await context.api.get(work.client)
        if found is None or (found.owner != work.owner and found.active):
            raise _NotAdoptable
    lane = PREMIUM if spec.dedicated else spec.lane
    if _may_use_dedicated_lane(work) and await _is_in_dedicated_lane(work):
        # A shared lane in between would move the client's open jobs there and back.
        lane = DEDICATED
    return await context.api.put(
        work.client, build_client(spec, owner=work.owner, lane=lane, active=not spec.suspended)
    )


async def _is_in_dedicated_lane(work: Reconcile) -> bool:
    if work.status.get("lane") == DEDICATED and not work.is_first_binding:
        return True
    # A reconciliation that was killed may have moved the client without writing the status.
    found = await work.context.api.get(work.client)
    return found is not None and found.owner == work.owner and found.lane == client_token(work.client)


async def _apply_lane(work: Reconcile, state: ClientState) -> ClientState:
    """Enter or leave the dedicated lane; an error is recorded in StreamsReady and does not stop the reconciliation."""
    conditions = work.update.conditions
    try:
        if _may_use_dedicated_lane(work):
            state = await dedicated_lane.enter(work, state)
            conditions[ConditionType.STREAMS] = true_condition("The client has a dedicated stream and workers.")
        else:
            conditions[ConditionType.STREAMS] = await dedicated_lane.leave(work, lane_open=state.lane_open)
    except StreamsUnavailable as error:
        # The shared lanes are kept by the API too, so an outage says nothing about a client that uses them.
        conditions[ConditionType.STREAMS] = Condition(
            FALSE if _may_use_dedicated_lane(work) else UNKNOWN,
            Reason.NATS_UNAVAILABLE,
            f"NATS is unavailable ({error}). Uploads are still accepted; the operator retries automatically.",
        )
    except StreamConflict as error:
        conditions[ConditionType.STREAMS] = false_condition(
            Reason.NATS_UNAVAILABLE, f"Stream configuration conflict: {error}"
        )
    except (KubernetesRefused, TemplatesInvalid) as error:
        conditions[ConditionType.STREAMS] = false_condition(
            Reason.KUBERNETES_REFUSED, f"The dedicated workers cannot be created or deleted: {error}"
        )
    return state


def _may_use_dedicated_lane(work: Reconcile) -> bool:
    return work.spec.dedicated and work.context.settings.dedicated_enabled


def _reject(work: Reconcile, reason: Reason, message: str) -> None:
    for kind in (ConditionType.QUOTA, ConditionType.CREDENTIALS):
        work.update.conditions[kind] = false_condition(reason, message)


def _mark_unknown(update: StatusUpdate, body: Object, message: str) -> None:
    """Set conditions that were never determined to Unknown; the others keep their last state."""
    status = body.get("status") or {}
    for kind in (ConditionType.QUOTA, ConditionType.CREDENTIALS, ConditionType.STREAMS):
        if kind not in update.conditions and find_condition(status, kind) is None:
            update.conditions[kind] = Condition(UNKNOWN, Reason.API_UNAVAILABLE, message)


def _paused(body: Object) -> Condition:
    known = find_condition(body.get("status") or {}, ConditionType.READY)
    return Condition(
        str(known["status"]) if known else UNKNOWN,
        Reason.PAUSED,
        f"Reconciliation is paused while the annotation {PAUSED_ANNOTATION} is true.",
    )
