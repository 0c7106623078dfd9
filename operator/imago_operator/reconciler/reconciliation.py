"""What `reconcile()` and `finalize()` share: the state of one reconciliation, its result, and retries on conflicts."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from imago.core.times import utc_now
from imago_operator.apis.kubernetes import Object, ObjectConflict
from imago_operator.conditions import Reason, StatusUpdate
from imago_operator.context import OperatorContext, resource_path
from imago_operator.resource import ClientSpec, ResourceRef, read_spec

# A conflict means that another writer was faster; this many in a row mean that another writer undoes our changes.
MAX_CONFLICTS = 5

UNKNOWN_CLIENT = UUID(int=0)


@dataclass(frozen=True)
class ReconcileResult:
    """How a reconciliation ended; `failed` requests a retry with backoff."""

    reason: Reason = Reason.RECONCILED
    requeue_after: float | None = None
    """Seconds until the next reconciliation, None if there is nothing to wait for."""
    failed: bool = False

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.requeue_after is None and not self.failed


@dataclass
class Reconcile:
    """One reconciliation: the resource as it was read, and the status collected so far."""

    context: OperatorContext
    ref: ResourceRef
    body: Object
    spec: ClientSpec
    update: StatusUpdate
    owner: str
    now: datetime
    client: UUID = UNKNOWN_CLIENT
    requeue_after: float | None = None

    @property
    def status(self) -> dict[str, Any]:
        """The status before this reconciliation."""
        return self.body.get("status") or {}

    @property
    def is_first_binding(self) -> bool:
        """Whether this reconciliation is the first to bind the resource to its client."""
        return bool(self.status.get("clientId") != str(self.client))

    def requeue_within(self, seconds: float) -> None:
        """Reconcile again after at most this many seconds."""
        self.requeue_after = seconds if self.requeue_after is None else min(self.requeue_after, seconds)

    def emit_event(self, reason: str, message: str, *, warning: bool = False) -> None:
        """Post a Kubernetes Event about the resource."""
        self.context.emit_event(self.body, warning=warning, reason=reason, message=message)


async def start_reconcile(context: OperatorContext, ref: ResourceRef, body: Object, update: StatusUpdate) -> Reconcile:
    """Return the state for reconciling a resource; raise InvalidSpec or NamespaceNotFound."""
    spec = read_spec(body)
    return Reconcile(context, ref, body, spec, update, owner=await context.owner_for(ref), now=utc_now())


async def read_resource(context: OperatorContext, ref: ResourceRef) -> Object | None:
    """Return the resource; None if it is gone or was replaced by another of the same name."""
    body = await context.kubernetes.get(resource_path(ref))
    return None if body is None or body["metadata"]["uid"] != ref.uid else body


async def retry_conflicts(attempt: Callable[[], Awaitable[ReconcileResult]], *, exhausted: Reason) -> ReconcileResult:
    """Repeat an attempt from the start as long as it meets conflicts; give up with the reason `exhausted`."""
    for _ in range(MAX_CONFLICTS):
        try:
            return await attempt()
        except ObjectConflict:
            continue
    return ReconcileResult(exhausted, requeue_after=1.0)
