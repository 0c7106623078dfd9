"""Entering and leaving a dedicated lane, in an order that loses no jobs and leaves no worker idle.

Entering: stream and consumers, Deployments, ScaledObjects, then the client's lane. Leaving: the client's lane, a wait
until the API reports no open jobs in the dedicated lane, then ScaledObjects, Deployments and stream.
"""

from datetime import datetime, timedelta

from imago.core.lanes.model import DEDICATED, client_token
from imago_operator.apis.imago_api import ClientState
from imago_operator.conditions import (
    FALSE,
    Condition,
    ConditionType,
    Reason,
    false_condition,
    find_condition,
    true_condition,
)
from imago_operator.reconciler import workers
from imago_operator.reconciler.reconciliation import Reconcile
from imago_operator.resource import build_client

# How often a draining lane is checked. An API process may publish to the lane as long as it caches the client (3 s), so
# the first check never ends the drain.
DRAIN_SECONDS = 5.0


async def enter(work: Reconcile, state: ClientState) -> ClientState:
    """Create or update stream and workers, move the client to the lane, and return the client's new state."""
    context, settings = work.context, work.context.settings
    lane = client_token(work.client)
    await context.streams.ensure_lane(lane)
    await workers.apply_workers(
        context.kubernetes,
        workers.build_workers(
            context.templates,
            work.ref,
            client=work.client,
            max_replicas=min(work.spec.max_replicas, settings.dedicated_max_replicas),
            namespace=settings.release_namespace,
        ),
        client=work.client,
        namespace=settings.release_namespace,
    )
    if state.lane != lane:
        body = build_client(work.spec, owner=work.owner, lane=DEDICATED, active=not work.spec.suspended)
        state = await context.api.put(work.client, body)
        work.emit_event("LaneEntered", "The client uses its dedicated lane.")
    return state


async def leave(work: Reconcile, *, lane_open: int) -> Condition:
    """Remove the dedicated lane once it has no open jobs; the client is in a shared lane already."""
    lane = client_token(work.client)
    if not await work.context.streams.lane_exists(lane):
        return _shared_lane(work)
    known = find_condition(work.status, ConditionType.STREAMS)
    draining = known is not None and (known["status"], known["reason"]) == (FALSE, Reason.LANE_DRAINING)
    since = datetime.fromisoformat(known["lastTransitionTime"]) if known is not None and draining else work.now
    if lane_open or work.now - since < timedelta(seconds=DRAIN_SECONDS):
        work.requeue_within(DRAIN_SECONDS)
        # Without the number of open jobs: it would change the status with every check.
        return false_condition(
            Reason.LANE_DRAINING,
            "Waiting for the open jobs of the dedicated lane; its stream and workers are deleted afterwards.",
        )
    await remove(work)
    work.emit_event("LaneLeft", "The dedicated lane is drained; its stream and workers were deleted.")
    return _shared_lane(work)


async def remove(work: Reconcile) -> None:
    """Delete ScaledObjects, Deployments and stream of the client's dedicated lane."""
    context = work.context
    await workers.delete_workers(context.kubernetes, client=work.client, namespace=context.settings.release_namespace)
    await context.streams.delete_lane(client_token(work.client))


def may_exist(work: Reconcile) -> bool:
    """Return whether stream or workers of a dedicated lane may exist for the client."""
    known = find_condition(work.status, ConditionType.STREAMS)
    draining = known is not None and known["reason"] == Reason.LANE_DRAINING
    return draining or work.status.get("lane") == DEDICATED or (work.spec.dedicated and bool(work.context.templates))


def _shared_lane(work: Reconcile) -> Condition:
    if work.spec.dedicated:
        return true_condition(
            "This installation does not offer dedicated lanes (operator.dedicated.enabled); the client uses the "
            "premium lane instead.",
            Reason.SHARED_LANE,
        )
    return true_condition("The client uses a shared lane.")
