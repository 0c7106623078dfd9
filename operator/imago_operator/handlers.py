"""The handlers that Kopf calls: short adapters to `reconcile()` and `finalize()`."""

import random
from collections.abc import Awaitable, Callable
from typing import Any

import kopf
import structlog

from imago_operator import metrics
from imago_operator.apis.kubernetes import KubernetesRefused, KubernetesUnavailable, find_credentials
from imago_operator.context import OperatorContext
from imago_operator.reconciler.deletion import finalize
from imago_operator.reconciler.reconcile import reconcile
from imago_operator.reconciler.reconciliation import ReconcileResult
from imago_operator.reprocessing.reconcile import finalize_job, reconcile_job
from imago_operator.reprocessing.spec import REPROCESS_PLURAL
from imago_operator.resource import GROUP, KOPF_PREFIX, PLURAL, VERSION, ResourceRef, ref_of
from imago_operator.sweep import Sweeper

log = structlog.get_logger(__name__)

# Seconds between retries of a failed reconciliation: short after a first failure, and soon enough after a long outage.
FIRST_BACKOFF, MAX_BACKOFF = 1.0, 30.0
# How often the counts of a reprocess job are read.
JOB_SECONDS = 10.0

Reconciler = Callable[[OperatorContext, ResourceRef], Awaitable[ReconcileResult]]


class Handlers:
    """The handlers of one operator process."""

    def __init__(self, context: OperatorContext, sweeper: Sweeper) -> None:
        self._context = context
        self._sweeper = sweeper

    def is_responsible(self, spec: kopf.Spec, **_: Any) -> bool:
        """Return whether a resource belongs to this installation; each installation has its own operator."""
        return bool(spec.get("installation", "default") == self._context.settings.installation)

    async def handle_change(self, body: kopf.Body, retry: int, **_: Any) -> None:
        """Reconcile a resource that was created or changed, or found at start-up."""
        await self._run("change", reconcile, body, retry)

    async def handle_interval(self, body: kopf.Body, retry: int = 0, **_: Any) -> None:
        """Reconcile a resource periodically: keys become due, and objects are deleted by hand."""
        await self._run("interval", reconcile, body, retry)

    async def handle_deletion(self, body: kopf.Body, retry: int, **_: Any) -> None:
        """Clean up after a deleted resource."""
        await self._run("deletion", finalize, body, retry)

    async def handle_job(self, body: kopf.Body, retry: int = 0, **_: Any) -> None:
        """Reconcile an ImagoReprocess that was created or changed, and follow its job."""
        await self._run("job", reconcile_job, body, retry)

    async def handle_job_deletion(self, body: kopf.Body, retry: int, **_: Any) -> None:
        """Delete the job of a deleted ImagoReprocess."""
        await self._run("job-deletion", finalize_job, body, retry)

    def initial_delay(self, body: kopf.Body, **_: Any) -> float:
        """Return the seconds until the timer first runs: 0 for a restored resource, which Kopf takes for handled."""
        restored = not (body.get("status") or {}).get("clientId") and any(
            name.startswith(f"{KOPF_PREFIX}/") for name in body.metadata.annotations
        )
        if restored:
            return 0.0
        # Random, so that the timers of all resources do not run at the same moment after a restart.
        return self._context.settings.resync_seconds * random.uniform(0.3, 1.0)  # noqa: S311 - jitter is no secret

    async def probe(self, **_: Any) -> str:
        """Report that the background work runs; a failure fails the liveness probe and restarts the process."""
        problem = self._sweeper.problem()
        if problem is not None:
            log.error("liveness.failed", problem=problem)
            raise kopf.PermanentError(problem)
        return "alive"

    async def _run(self, trigger: str, reconciler: Reconciler, body: kopf.Body, retry: int) -> None:
        ref = ref_of(body)
        self._context.record_reconcile(ref)
        with (
            structlog.contextvars.bound_contextvars(namespace=ref.namespace, name=ref.name, trigger=trigger),
            metrics.RECONCILE_SECONDS.labels(trigger).time(),
        ):
            try:
                result = await reconciler(self._context, ref)
            except Exception as error:
                _record_error(trigger, error)
                raise kopf.TemporaryError(type(error).__name__, delay=_backoff(retry)) from None
            _record_result(trigger, result)
            if result.failed:
                raise kopf.TemporaryError(str(result.reason), delay=_backoff(retry))
            if result.requeue_after is not None:
                raise kopf.TemporaryError(str(result.reason), delay=result.requeue_after)


def build_registry(handlers: Handlers, *, resync_seconds: float) -> kopf.OperatorRegistry:
    """Register the handlers with Kopf; it stores progress under their ids, so these must never change."""
    registry = kopf.OperatorRegistry()
    options: dict[str, Any] = {"registry": registry, "when": handlers.is_responsible}
    for decorator in (kopf.on.create, kopf.on.update, kopf.on.resume):
        decorator(GROUP, VERSION, PLURAL, id="reconcile", **options)(handlers.handle_change)
    kopf.on.delete(GROUP, VERSION, PLURAL, id="finalize", **options)(handlers.handle_deletion)
    kopf.timer(
        GROUP, VERSION, PLURAL, id="interval", interval=resync_seconds, initial_delay=handlers.initial_delay, **options
    )(handlers.handle_interval)
    _register_jobs(registry, handlers, seconds=min(resync_seconds, JOB_SECONDS))
    kopf.on.login(registry=registry)(log_in)
    kopf.on.probe(registry=registry, id="sweeper")(handlers.probe)
    return registry


def _register_jobs(registry: kopf.OperatorRegistry, handlers: Handlers, *, seconds: float) -> None:
    options: dict[str, Any] = {"registry": registry, "when": handlers.is_responsible}
    for decorator in (kopf.on.create, kopf.on.update, kopf.on.resume):
        decorator(GROUP, VERSION, REPROCESS_PLURAL, id="reconcile-job", **options)(handlers.handle_job)
    kopf.on.delete(GROUP, VERSION, REPROCESS_PLURAL, id="finalize-job", **options)(handlers.handle_job_deletion)
    timer = kopf.timer(GROUP, VERSION, REPROCESS_PLURAL, id="interval-job", interval=seconds, **options)
    timer(handlers.handle_job)


def log_in(**_: Any) -> kopf.ConnectionInfo:
    """Return the credentials that the rest of the operator uses."""
    return find_credentials()


def _record_error(trigger: str, error: Exception) -> None:
    metrics.RECONCILES.labels(trigger, "error").inc()
    metrics.ERRORS.labels(type(error).__name__).inc()
    if isinstance(error, (KubernetesUnavailable, KubernetesRefused)):
        log.warning("reconcile.failed", error=f"{type(error).__name__}: {error}")
    else:
        log.error("reconcile.failed", exc_info=error)


def _record_result(trigger: str, result: ReconcileResult) -> None:
    if result.failed:
        metrics.RECONCILES.labels(trigger, "failed").inc()
        metrics.ERRORS.labels(str(result.reason)).inc()
        log.warning("reconcile.deferred", reason=str(result.reason))
        return
    metrics.RECONCILES.labels(trigger, "done" if result.is_finished else "waiting").inc()
    # The timers reconcile every resource again and again, usually without a change.
    facts = {"reason": str(result.reason), "requeue_after": result.requeue_after}
    if trigger in ("interval", "job"):
        log.debug("reconcile.completed", **facts)
    else:
        log.info("reconcile.completed", **facts)


def _backoff(retry: int) -> float:
    ceiling: float = min(FIRST_BACKOFF * 2 ** min(retry, 10), MAX_BACKOFF)
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret
