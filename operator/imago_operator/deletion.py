"""What follows the deletion of a resource: the client is deactivated or erased, and nothing of ours stays behind.

Only cleanup runs: a terminating namespace takes no new objects.
"""

from imago.core.lanes.model import client_token
from imago.core.times import utc_now
from imago.nats.streams import StreamConflict, StreamsUnavailable
from imago_operator import keyring, own_lanes
from imago_operator.conditions import Kind, Outcome, Reason, bad
from imago_operator.context import Context, resource_path
from imago_operator.credentials import is_ours
from imago_operator.imago_api import ApiRefused, ApiUnavailable, ClientOwned, ClientState
from imago_operator.kubernetes import Changed, Object, Refused, secret_path
from imago_operator.passes import Pass, Result
from imago_operator.reporting import report
from imago_operator.resource import (
    ABANDON_ANNOTATION,
    PAUSED_ANNOTATION,
    Ref,
    SpecRefused,
    build_client,
    client_uuid,
    flagged,
    read_spec,
)

# How often an erasure is looked at.
ERASURE_SECONDS = 3.0
PAUSED_SECONDS = 15.0
CONFLICTS = 5

_WAY_OUT = f"To give the resource up and clean up by hand, annotate it {ABANDON_ANNOTATION}=true."


async def finalize(context: Context, ref: Ref) -> Result:
    """Do what deletion asks for, as far as it can be done now; a result without `again` or failure is the end of it."""
    async with context.lock(ref):
        for _ in range(CONFLICTS):
            try:
                result = await _attempt(context, ref)
            except Changed:
                continue
            if result.again is None and not result.failed:
                context.forget(ref)
            return result
        return Result(Reason.DELETING, again=1.0)


async def _attempt(context: Context, ref: Ref) -> Result:
    body = await context.kubernetes.get(resource_path(ref))
    if body is None or body["metadata"]["uid"] != ref.uid:
        return Result(Reason.DELETING)
    if flagged(body, ABANDON_ANNOTATION):
        client = (body.get("status") or {}).get("clientId", "-")
        context.announce(
            body,
            warning=True,
            reason="Abandoned",
            message=f"Given up as asked: client {client} stays in Imago as it is, and so does what belongs to it.",
        )
        return Result(Reason.DELETING)
    outcome = Outcome()
    result = await _result(context, ref, body, outcome)
    if result.again is not None or result.failed:
        await report(context, ref, body, outcome)
    return result


async def _result(context: Context, ref: Ref, body: Object, outcome: Outcome) -> Result:
    if flagged(body, PAUSED_ANNOTATION):
        message = f"The deletion waits for as long as the annotation {PAUSED_ANNOTATION} is true."
        outcome.findings[Kind.READY] = bad(Reason.PAUSED, message)
        return Result(Reason.PAUSED, again=PAUSED_SECONDS)
    try:
        spec = read_spec(body)
    except SpecRefused as error:
        outcome.findings[Kind.READY] = bad(Reason.API_REFUSED, f"The spec can't be read: {error}. {_WAY_OUT}")
        return Result(Reason.API_REFUSED, failed=True)
    work = Pass(context, ref, body, spec, outcome, owner=await context.owner(ref), now=utc_now())
    try:
        waiting = await _clean_up(work)
    except ApiUnavailable as error:
        return _failed(outcome, Reason.API_UNAVAILABLE, f"Imago's API can't be asked: {error}.")
    except (ApiRefused, Refused) as error:
        return _failed(outcome, Reason.API_REFUSED, f"The cleanup is refused: {error}.")
    except (StreamsUnavailable, StreamConflict) as error:
        return _failed(outcome, Reason.NATS_UNAVAILABLE, f"The client's stream can't be removed: {error}.")
    if waiting is not None:
        outcome.findings[Kind.READY] = bad(Reason.DELETING, waiting)
        return Result(Reason.DELETING, again=work.again or ERASURE_SECONDS)
    return Result(Reason.DELETING)


async def _clean_up(work: Pass) -> str | None:
    """Clean up; return what is waited for, in words, or None at the end."""
    found = await _find_secret(work)
    work.client = client_uuid(work.body, found.held.client_id if found.held is not None else None)
    state = await work.context.api.get(work.client)
    if state is not None and state.owner == work.owner:
        try:
            waiting = await (_erase(work, state) if work.spec.erase else _retire(work, state))
        except ClientOwned:
            # Transferred just now: it is no business of ours any more.
            waiting = None
        if waiting is not None:
            return waiting
    if own_lanes.had_own(work) and not _others(work, state):
        await own_lanes.remove(work)
    binding = work.status.get("binding") or {}
    for name in dict.fromkeys((work.spec.secret_name, binding.get("name"), *binding.get("previous", ()))):
        await _delete_secret(work, name)
    return None


def _others(work: Pass, state: ClientState | None) -> bool:
    """Tell whether the client is another owner's, with whatever lane it has there."""
    return state is not None and state.owner != work.owner


async def _erase(work: Pass, state: ClientState) -> str | None:
    if state.erasure is None:
        await work.context.api.erase(work.client, owner=work.owner)
        work.tell("Erasing", f"Client {work.client} is being erased, as spec.deletionPolicy says.")
    work.come_back(ERASURE_SECONDS)
    progress = state.erasure or {}
    done, total = progress.get("images_erased", 0), progress.get("images_total", "?")
    return f"The client is being erased: {done} of {total} images so far. {_WAY_OUT}"


async def _retire(work: Pass, state: ClientState) -> str | None:
    token = client_token(work.client)
    if state.lane == token:
        # What waits in its own lane is finished by others.
        body = build_client(work.spec, owner=work.owner, lane=None, active=False)
        state = await work.context.api.put(work.client, body)
    elif state.active:
        await work.context.api.deactivate(work.client, owner=work.owner)
    if own_lanes.had_own(work):
        finding = await own_lanes.leave(work, lane_open=state.lane_open)
        work.outcome.findings[Kind.STREAMS] = finding
        if finding.reason is Reason.LANE_DRAINING:
            return f"The client is deactivated; {finding.message}"
    work.tell(
        "Retained",
        f"Client {work.client} is deactivated and its images stay. A resource of this namespace and name takes it "
        f"back with spec.clientId: {work.client}",
    )
    return None


async def _find_secret(work: Pass) -> keyring.Found:
    try:
        return await keyring.find_secret(work)
    except Refused:
        if await work.context.terminating(work.ref):
            return keyring.Found(None, None)
        raise


async def _delete_secret(work: Pass, name: str | None) -> None:
    if not name:
        return
    path = secret_path(work.ref.namespace, name)
    try:
        secret = await work.context.kubernetes.get(path)
        if secret is not None and is_ours(secret, work.ref):
            await work.context.kubernetes.delete(path, uid=secret["metadata"]["uid"])
    except Refused:
        if not await work.context.terminating(work.ref):
            raise


def _failed(outcome: Outcome, reason: Reason, message: str) -> Result:
    outcome.findings[Kind.READY] = bad(reason, f"{message} It is tried again by itself. {_WAY_OUT}")
    return Result(reason, failed=True)
