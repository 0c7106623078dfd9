"""Writes what a pass found into `status`, and tells people what has changed."""

from imago.core.times import utc_now
from imago_operator.conditions import FALSE, Kind, Outcome, Reason, build_status, find_condition, merge_patch
from imago_operator.context import Context, resource_path
from imago_operator.kubernetes import Object
from imago_operator.resource import Ref

# These are as a person wanted them, or mend themselves while all is served.
_CALM = frozenset({Reason.RECONCILED, Reason.SUSPENDED, Reason.PAUSED, Reason.LANE_DRAINING, Reason.DELETING})


async def report(context: Context, ref: Ref, body: Object, outcome: Outcome) -> None:
    """Write the status where it has changed, bound to the version that was read; raise Changed."""
    old = body.get("status") or {}
    generation = body["metadata"].get("generation", 0)
    new = build_status(old, outcome, generation=generation, now=utc_now())
    patch = merge_patch(old, new)
    if patch:
        version = {"resourceVersion": body["metadata"]["resourceVersion"]}
        await context.kubernetes.patch(f"{resource_path(ref)}/status", {"metadata": version, "status": patch})
    context.conditions.note(ref.uid, new)
    _tell(context, body, old, new)


def _tell(context: Context, body: Object, old: Object, new: Object) -> None:
    before, after = find_condition(old, Kind.READY), find_condition(new, Kind.READY)
    if after is None or (before is not None and before["reason"] == after["reason"]):
        return
    reason = Reason(after["reason"])
    if reason is Reason.RECONCILED and (before is None or before["status"] != FALSE):
        # That a key was issued has an Event of its own.
        return
    context.announce(body, warning=reason not in _CALM, reason=str(reason), message=after["message"])
