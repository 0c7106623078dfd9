"""What no single resource's pass can see: streams that all share, and workers whose resource is gone."""

import asyncio

import structlog

from imago.bus.topology import TopologyConflict, TopologyUnavailable
from imago_operator import metrics
from imago_operator.context import Context, resource_path
from imago_operator.kubernetes import Changed, KubernetesUnavailable, Object, Refused
from imago_operator.resource import CLIENT_ID_LABEL, CLIENT_NAME_LABEL, CLIENT_NAMESPACE_LABEL, Ref
from imago_operator.workers import list_workers

log = structlog.get_logger(__name__)


class Sweeper:
    """Sweeps at intervals, for as long as the process lives."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.last = asyncio.get_running_loop().time()

    @property
    def alive(self) -> bool:
        """Whether it has come round lately; liveness asks."""
        # A sweep has deadlines in each of its requests, so ten intervals are beyond any that only takes long.
        return asyncio.get_running_loop().time() - self.last < 10 * self._context.settings.sweep_seconds + 60

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            await self.run_once()
            self.last = asyncio.get_running_loop().time()
            await asyncio.sleep(self._context.settings.sweep_seconds)

    async def run_once(self) -> None:
        """Make sure of the streams, and remove workers without a resource; trouble is for the next time."""
        try:
            await self._context.topology.ensure_all()
            if self._context.settings.dedicated_enabled:
                await sweep_workers(self._context)
        except (TopologyUnavailable, TopologyConflict, KubernetesUnavailable, Refused, Changed) as error:
            metrics.SWEEP_FAILURES.inc()
            log.warning("the sweep didn't reach its end", error=f"{type(error).__name__}: {error}")
        except Exception:
            metrics.SWEEP_FAILURES.inc()
            log.exception("the sweep failed")


async def sweep_workers(context: Context) -> int:
    """Remove workers of dedicated lanes whose resource is gone; return how many."""
    namespace, count = context.settings.release_namespace, 0
    for kind, item in reversed(await list_workers(context.kubernetes, namespace)):
        if not await _orphaned(context, item["metadata"].get("labels") or {}):
            continue
        await context.kubernetes.delete(kind.path(namespace, item["metadata"]["name"]), uid=item["metadata"]["uid"])
        metrics.SWEPT.labels(kind.kind).inc()
        log.info("a worker without a resource is removed", kind=kind.kind, worker=item["metadata"]["name"])
        count += 1
    return count


async def _orphaned(context: Context, labels: dict[str, str]) -> bool:
    namespace, name = labels.get(CLIENT_NAMESPACE_LABEL), labels.get(CLIENT_NAME_LABEL)
    watched = context.settings.everywhere or namespace in context.settings.watch_namespaces
    if not namespace or not name or not watched:
        # Whether there is a resource can't be known here.
        return False
    resource: Object | None = await context.kubernetes.get(resource_path(Ref(namespace, name, "")))
    if resource is None:
        return True
    bound = (resource.get("status") or {}).get("clientId")
    return bound is not None and bound != labels[CLIENT_ID_LABEL]
