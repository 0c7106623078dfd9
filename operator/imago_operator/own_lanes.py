"""Entering and leaving a lane of one's own: in an order that loses no work and leaves no worker idle.

In: stream and consumers, Deployments, ScaledObjects, then the lane. Out: the lane, then a wait until the API says that
nothing is left there, then ScaledObjects, Deployments, stream.
"""

from datetime import datetime, timedelta

from imago.core.lanes.model import DEDICATED, client_token
from imago_operator import workers
from imago_operator.conditions import FALSE, Finding, Kind, Reason, bad, find_condition, good
from imago_operator.imago_api import ClientState
from imago_operator.passes import Pass
from imago_operator.resource import build_client

# How often a lane that drains is looked at. An API process may still publish to a lane for as long as it remembers a
# client (3 s), so the first look never ends it.
DRAIN_SECONDS = 5.0


async def enter(work: Pass, state: ClientState) -> ClientState:
    """Make stream and workers what they should be, and the lane the client's; return the client as it is then."""
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
        work.tell("LaneEntered", "The client's work goes to a lane of its own now.")
    return state


async def leave(work: Pass, *, lane_open: int) -> Finding:
    """Take the client's own lane away once it is empty; the client is in a shared one by now."""
    lane = client_token(work.client)
    if not await work.context.streams.lane_exists(lane):
        return _shared(work)
    known = find_condition(work.status, Kind.STREAMS)
    draining = known is not None and (known["status"], known["reason"]) == (FALSE, Reason.LANE_DRAINING)
    since = datetime.fromisoformat(known["lastTransitionTime"]) if known is not None and draining else work.now
    if lane_open or work.now - since < timedelta(seconds=DRAIN_SECONDS):
        work.come_back(DRAIN_SECONDS)
        # Without the number: it would be written with every look.
        return bad(
            Reason.LANE_DRAINING,
            "The client left its own lane; stream and workers go when what waits there is done.",
        )
    await remove(work)
    work.tell("LaneLeft", "The client's own lane is empty; its stream and workers are removed.")
    return _shared(work)


async def remove(work: Pass) -> None:
    """Remove ScaledObjects, Deployments and stream of the client's own lane."""
    context = work.context
    await workers.remove_workers(context.kubernetes, client=work.client, namespace=context.settings.release_namespace)
    await context.streams.delete_lane(client_token(work.client))


def had_own(work: Pass) -> bool:
    """Tell whether anything of a lane of its own may be left of the client."""
    known = find_condition(work.status, Kind.STREAMS)
    draining = known is not None and known["reason"] == Reason.LANE_DRAINING
    return draining or work.status.get("lane") == DEDICATED or (work.spec.dedicated and bool(work.context.templates))


def _shared(work: Pass) -> Finding:
    if work.spec.dedicated:
        return good(
            "A dedicated lane isn't offered by this installation (operator.dedicated.enabled); premium serves the "
            "client meanwhile.",
            Reason.SHARED_LANE,
        )
    return good("The client's work goes to a shared lane.")
