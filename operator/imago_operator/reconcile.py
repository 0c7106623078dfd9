"""One pass over one resource: idempotent, from whatever an earlier pass left, killed at any point or not.

Handlers and timers both come here. A pass reads the resource, its Secret and its client, does what is missing, writes
what it found into `status`, and says when it has to come back.
"""

from imago.core.lanes.model import DEDICATED, PREMIUM, client_token, lane_label
from imago.core.times import utc_now
from imago.nats.streams import StreamConflict, StreamsUnavailable
from imago_operator import keyring, own_lanes
from imago_operator.conditions import (
    UNKNOWN,
    Finding,
    Kind,
    Outcome,
    Reason,
    bad,
    build_usage,
    find_condition,
    good,
    ready,
)
from imago_operator.context import Context, resource_path
from imago_operator.imago_api import ApiRefused, ApiUnavailable, ClientOwned, ClientState
from imago_operator.kubernetes import Changed, Object, Refused
from imago_operator.passes import Pass, Result
from imago_operator.reporting import report
from imago_operator.resource import (
    PAUSED_ANNOTATION,
    Ref,
    SpecRefused,
    build_client,
    client_uuid,
    flagged,
    read_spec,
)
from imago_operator.workers import TemplatesInvalid

# Each conflict means that somebody else got on; so many in a row mean that somebody fights us.
CONFLICTS = 5


async def reconcile(context: Context, ref: Ref) -> Result:
    """Bring a resource, its Secret, its client and its lane into agreement; raise KubernetesUnavailable."""
    async with context.lock(ref):
        for _ in range(CONFLICTS):
            try:
                return await _attempt(context, ref)
            except Changed:
                continue
        return Result(Reason.KUBERNETES_REFUSED, again=1.0)


async def _attempt(context: Context, ref: Ref) -> Result:
    body = await context.kubernetes.get(resource_path(ref))
    if body is None or body["metadata"]["uid"] != ref.uid or "deletionTimestamp" in body["metadata"]:
        # The handler of deletions sees to the rest.
        return Result()
    outcome = Outcome()
    result = await _result(context, ref, body, outcome)
    await report(context, ref, body, outcome)
    return result


async def _result(context: Context, ref: Ref, body: Object, outcome: Outcome) -> Result:
    if flagged(body, PAUSED_ANNOTATION):
        outcome.findings[Kind.READY] = _paused(body)
        return Result(Reason.PAUSED)
    try:
        spec = read_spec(body)
    except SpecRefused as error:
        outcome.findings[Kind.READY] = bad(Reason.API_REFUSED, f"The spec can't be read: {error}.")
        return Result(Reason.API_REFUSED)
    work = Pass(context, ref, body, spec, outcome, owner=await context.owner(ref), now=utc_now())
    try:
        await _settle(work)
    except ApiUnavailable as error:
        message = f"Imago's API can't be asked: {error}. Nothing was changed; it is tried again by itself."
        _unknown(outcome, body, message)
        outcome.findings[Kind.READY] = bad(Reason.API_UNAVAILABLE, message)
        return Result(Reason.API_UNAVAILABLE, failed=True)
    except Refused as error:
        outcome.findings[Kind.CREDENTIALS] = bad(
            Reason.KUBERNETES_REFUSED, f"Kubernetes refuses what the Secret needs: {error}. See the operator's Roles."
        )
    outcome.findings[Kind.READY] = ready(outcome.findings, suspended=spec.suspended)
    return Result(outcome.findings[Kind.READY].reason, again=work.again)


async def _settle(work: Pass) -> None:
    secret = await keyring.find_secret(work)
    work.client = client_uuid(work.body, secret.held.client_id if secret.held is not None else None)
    try:
        state = await _settle_client(work)
    except ClientOwned:
        _refuse(
            work,
            Reason.CLIENT_OWNED,
            f"Client {work.client} belongs to another owner. If it is to be this resource's, an administrator runs: "
            f"imago client transfer {work.client} {work.owner}",
        )
        return
    except _NotAdoptable:
        _refuse(
            work,
            Reason.ADOPTION_REFUSED,
            f"There is no client {work.client} that could be adopted: it doesn't exist, or is in use elsewhere. "
            f"An administrator can hand it over: imago client transfer {work.client} {work.owner}",
        )
        return
    except ApiRefused as error:
        _refuse(work, Reason.API_REFUSED, f"Imago refuses the client: {error}")
        return
    state = await _settle_lane(work, state)
    status = work.status
    work.outcome.findings[Kind.QUOTA] = good("Plan, limits, scopes and pipeline are in force.")
    work.outcome.facts |= {
        "clientId": str(work.client),
        "lane": lane_label(state.lane),
        "usage": build_usage(status.get("usage"), state.usage, work.now),
    }
    await keyring.settle_keys(work, secret, state)


class _NotAdoptable(Exception):
    """The client that `spec.clientId` names doesn't exist or is active elsewhere; which, is nobody's business."""


async def _settle_client(work: Pass) -> ClientState:
    """Make the client what the spec says, in the lane it can have at once."""
    context, spec = work.context, work.spec
    if spec.client_id is not None and work.binds:
        found = await context.api.get(work.client)
        if found is None or (found.owner != work.owner and found.active):
            raise _NotAdoptable
    lane = PREMIUM if spec.dedicated else spec.lane
    if _may_have_own(work) and await _has_own(work):
        # Going through a shared lane would move its work there and back.
        lane = DEDICATED
    return await context.api.put(
        work.client, build_client(spec, owner=work.owner, lane=lane, active=not spec.suspended)
    )


async def _has_own(work: Pass) -> bool:
    if work.status.get("lane") == DEDICATED and not work.binds:
        return True
    # A pass that was killed may have got there without writing it down.
    found = await work.context.api.get(work.client)
    return found is not None and found.owner == work.owner and found.lane == client_token(work.client)


async def _settle_lane(work: Pass, state: ClientState) -> ClientState:
    """Give the client a lane of its own, or take it away; what fails here is told, and the client served meanwhile."""
    findings = work.outcome.findings
    try:
        if _may_have_own(work):
            state = await own_lanes.enter(work, state)
            findings[Kind.STREAMS] = good("The client has a stream and workers of its own.")
            return state
        findings[Kind.STREAMS] = await own_lanes.leave(work, lane_open=state.lane_open)
    except StreamsUnavailable as error:
        message = f"NATS can't be asked ({error}); uploads are taken all the same, and it is tried again by itself."
        # Shared lanes are others' business: nothing of this client's is known to be wrong.
        status = "False" if work.spec.dedicated and _may_have_own(work) else UNKNOWN
        findings[Kind.STREAMS] = Finding(status, Reason.NATS_UNAVAILABLE, message)
    except StreamConflict as error:
        findings[Kind.STREAMS] = bad(Reason.NATS_UNAVAILABLE, f"A stream can't be changed to what is needed: {error}")
    except (Refused, TemplatesInvalid) as error:
        findings[Kind.STREAMS] = bad(
            Reason.KUBERNETES_REFUSED, f"The workers of the lane can't be made or removed: {error}"
        )
    return state


def _may_have_own(work: Pass) -> bool:
    return work.spec.dedicated and work.context.settings.dedicated_enabled


def _refuse(work: Pass, reason: Reason, message: str) -> None:
    for kind in (Kind.QUOTA, Kind.CREDENTIALS):
        work.outcome.findings[kind] = bad(reason, message)


def _unknown(outcome: Outcome, body: Object, message: str) -> None:
    """Say of the parts that were never looked at that nothing is known; others stay as they were seen last."""
    status = body.get("status") or {}
    for kind in (Kind.QUOTA, Kind.CREDENTIALS, Kind.STREAMS):
        if kind not in outcome.findings and find_condition(status, kind) is None:
            outcome.findings[kind] = Finding(UNKNOWN, Reason.API_UNAVAILABLE, message)


def _paused(body: Object) -> Finding:
    known = find_condition(body.get("status") or {}, Kind.READY)
    return Finding(
        str(known["status"]) if known else UNKNOWN,
        Reason.PAUSED,
        f"Nothing is looked at or changed while the annotation {PAUSED_ANNOTATION} is true.",
    )
