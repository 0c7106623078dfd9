"""Reconciles an ImagoReprocess: creates its job once, follows it, and deletes the resource some time after its end.

The job's uuid is the resource's uid, so a creation that is repeated after a crash finds the job.
"""

from datetime import datetime
from uuid import UUID

from imago.core.times import utc_now
from imago_operator.apis.imago_api import ApiRefused, ApiUnavailable, JobState, NothingSelected
from imago_operator.apis.kubernetes import Object, custom_path
from imago_operator.conditions import (
    ConditionType,
    Reason,
    StatusUpdate,
    build_status,
    false_condition,
    find_condition,
    kubernetes_time,
    merge_patch,
    true_condition,
)
from imago_operator.context import OperatorContext
from imago_operator.reconciler.reconciliation import ReconcileResult, retry_conflicts
from imago_operator.reprocessing.clients import ForeignClient, select_clients
from imago_operator.reprocessing.spec import REPROCESS_PLURAL, ReprocessSpec, build_job, read_reprocess_spec
from imago_operator.resource import (
    ABANDON_ANNOTATION,
    GROUP,
    PAUSED_ANNOTATION,
    VERSION,
    InvalidSpec,
    ResourceRef,
    has_flag,
)

PAUSED_SECONDS = 15.0
# Reasons whose Events are no warnings: the job is making progress, or its owner suspended it.
_NORMAL = frozenset({Reason.RECONCILED, Reason.SUSPENDED})


async def reconcile_job(context: OperatorContext, ref: ResourceRef) -> ReconcileResult:
    """Create or change the job, and write its counts to the status; raise KubernetesUnavailable."""
    async with context.lock_for(ref):
        return await retry_conflicts(lambda: _attempt(context, ref), exhausted=Reason.KUBERNETES_REFUSED)


async def finalize_job(context: OperatorContext, ref: ResourceRef) -> ReconcileResult:
    """Delete the job of a deleted resource; the runs that it has queued continue."""
    async with context.lock_for(ref):
        body = await _read(context, ref)
        if body is None or has_flag(body, ABANDON_ANNOTATION):
            return ReconcileResult(Reason.DELETING)
        if has_flag(body, PAUSED_ANNOTATION):
            return ReconcileResult(Reason.PAUSED, requeue_after=PAUSED_SECONDS)
        try:
            await context.api.delete_job(UUID(ref.uid))
        except ApiUnavailable:
            return ReconcileResult(Reason.API_UNAVAILABLE, failed=True)
        except ApiRefused:
            return ReconcileResult(Reason.API_REFUSED, failed=True)
        context.forget(ref)
        return ReconcileResult(Reason.DELETING)


async def _attempt(context: OperatorContext, ref: ResourceRef) -> ReconcileResult:
    body = await _read(context, ref)
    if body is None or "deletionTimestamp" in body["metadata"] or has_flag(body, PAUSED_ANNOTATION):
        return ReconcileResult()
    update = StatusUpdate()
    try:
        spec = read_reprocess_spec(body)
        if _is_expired(body, spec):
            await context.kubernetes.delete(_path(ref), uid=ref.uid)
            return ReconcileResult()
        result = await _apply(context, ref, body, spec, update)
    except InvalidSpec as error:
        result = _not_ready(update, Reason.API_REFUSED, f"Invalid spec: {error}.")
    await _write_status(context, ref, body, update)
    return result


async def _apply(
    context: OperatorContext, ref: ResourceRef, body: Object, spec: ReprocessSpec, update: StatusUpdate
) -> ReconcileResult:
    try:
        job = await context.api.get_job(UUID(ref.uid))
        if job is None and _has_finished(body):
            return ReconcileResult()
        if job is None and (body.get("status") or {}).get("jobId") is not None:
            return _failed(update, Reason.JOB_DELETED, "An administrator deleted the job. Create another resource.")
        if job is None:
            clients = await select_clients(context, ref, spec)
            job = await context.api.create_job(build_job(spec, uid=ref.uid, clients=clients))
        elif not job.completed and (job.images_per_minute, job.suspended) != (spec.images_per_minute, spec.suspended):
            job = await context.api.change_job(
                job.uuid, {"images_per_minute": spec.images_per_minute, "suspended": spec.suspended}
            )
    except ForeignClient as error:
        return _not_ready(update, Reason.CLIENT_FOREIGN, str(error))
    except NothingSelected as error:
        return _failed(update, Reason.NOTHING_SELECTED, f"{error} Create another resource.")
    except ApiUnavailable as error:
        message = f"Imago's API is unavailable: {error}. The job continues; the operator retries automatically."
        update.conditions[ConditionType.READY] = false_condition(Reason.API_UNAVAILABLE, message)
        return ReconcileResult(Reason.API_UNAVAILABLE, failed=True)
    except ApiRefused as error:
        return _not_ready(update, Reason.API_REFUSED, f"Imago rejected the job: {error}")
    _follow(update, job)
    return ReconcileResult(Reason.RECONCILED)


def _follow(update: StatusUpdate, job: JobState) -> None:
    update.fields |= {"phase": job.phase.capitalize(), "jobId": job.id, "counts": dict(job.counts)}
    done = f"{job.counts['done']} of {job.counts['matched']} images are done, {job.counts['failed']} failed."
    if job.completed_at is not None:
        update.fields["completedAt"] = kubernetes_time(job.completed_at)
        update.conditions[ConditionType.COMPLETE] = true_condition(done)
    else:
        update.conditions[ConditionType.COMPLETE] = false_condition(Reason.RECONCILED, "The job is not completed.")
    ready = "The job matches the spec."
    if job.phase == "suspended":
        update.conditions[ConditionType.READY] = true_condition("The job is suspended.", Reason.SUSPENDED)
    else:
        update.conditions[ConditionType.READY] = true_condition(ready)


def _not_ready(update: StatusUpdate, reason: Reason, message: str) -> ReconcileResult:
    """Record why there is no job; the timer tries again."""
    update.fields["phase"] = "Pending"
    update.conditions[ConditionType.READY] = false_condition(reason, message)
    return ReconcileResult(reason)


def _failed(update: StatusUpdate, reason: Reason, message: str) -> ReconcileResult:
    """Record that there will be no job."""
    update.fields |= {"phase": "Failed", "completedAt": kubernetes_time(utc_now())}
    update.conditions[ConditionType.READY] = false_condition(reason, message)
    return ReconcileResult(reason)


def _has_finished(body: Object) -> bool:
    return "completedAt" in (body.get("status") or {})


def _is_expired(body: Object, spec: ReprocessSpec) -> bool:
    if spec.ttl is None or not _has_finished(body):
        return False
    return datetime.fromisoformat(body["status"]["completedAt"]) + spec.ttl <= utc_now()


async def _read(context: OperatorContext, ref: ResourceRef) -> Object | None:
    body = await context.kubernetes.get(_path(ref))
    return None if body is None or body["metadata"]["uid"] != ref.uid else body


async def _write_status(context: OperatorContext, ref: ResourceRef, body: Object, update: StatusUpdate) -> None:
    old = body.get("status") or {}
    new = build_status(old, update, generation=body["metadata"].get("generation", 0), now=utc_now())
    patch = merge_patch(old, new)
    if not patch:
        return
    version = {"resourceVersion": body["metadata"]["resourceVersion"]}
    await context.kubernetes.patch(f"{_path(ref)}/status", {"metadata": version, "status": patch})
    before, after = find_condition(old, ConditionType.READY), find_condition(new, ConditionType.READY)
    if after is not None and (before is None or before["reason"] != after["reason"]):
        reason = Reason(after["reason"])
        context.emit_event(body, warning=reason not in _NORMAL, reason=str(reason), message=after["message"])
    complete = find_condition(new, ConditionType.COMPLETE)
    if complete is not None and complete["status"] == "True" and "completedAt" not in old:
        context.emit_event(body, warning=False, reason="Completed", message=complete["message"])


def _path(ref: ResourceRef) -> str:
    return custom_path(GROUP, VERSION, ref.namespace, REPROCESS_PLURAL, ref.name)
