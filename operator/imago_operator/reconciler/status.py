"""Writes the result of a reconciliation to `status`, and emits an Event when Ready changes."""

from imago.core.times import utc_now
from imago_operator.apis.kubernetes import Object
from imago_operator.conditions import (
    FALSE,
    ConditionType,
    Reason,
    StatusUpdate,
    build_status,
    find_condition,
    merge_patch,
)
from imago_operator.context import OperatorContext, resource_path
from imago_operator.resource import ResourceRef

# Requested by the user, or temporary while the client is served.
_NORMAL = frozenset({Reason.RECONCILED, Reason.SUSPENDED, Reason.PAUSED, Reason.LANE_DRAINING, Reason.DELETING})


async def write_status(context: OperatorContext, ref: ResourceRef, body: Object, update: StatusUpdate) -> None:
    """Write the status if it changed, bound to the version that was read; raise ObjectConflict."""
    old = body.get("status") or {}
    generation = body["metadata"].get("generation", 0)
    new = build_status(old, update, generation=generation, now=utc_now())
    patch = merge_patch(old, new)
    if patch:
        version = {"resourceVersion": body["metadata"]["resourceVersion"]}
        await context.kubernetes.patch(f"{resource_path(ref)}/status", {"metadata": version, "status": patch})
    context.metrics.record(ref.uid, new)
    _emit_ready_event(context, body, old, new)


def _emit_ready_event(context: OperatorContext, body: Object, old: Object, new: Object) -> None:
    before, after = find_condition(old, ConditionType.READY), find_condition(new, ConditionType.READY)
    if after is None or (before is not None and before["reason"] == after["reason"]):
        return
    reason = Reason(after["reason"])
    if reason is Reason.RECONCILED and (before is None or before["status"] != FALSE):
        # The Event KeyIssued already says that a new resource is ready.
        return
    context.emit_event(body, warning=reason not in _NORMAL, reason=str(reason), message=after["message"])
