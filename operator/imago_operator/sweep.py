"""What no single resource's pass can see: streams that all share, workers whose resource is gone, deaf watches."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import structlog

from imago.core.times import utc_now
from imago.nats.streams import StreamConflict, StreamsUnavailable
from imago_operator import metrics
from imago_operator.context import Context, resource_path
from imago_operator.kubernetes import Changed, KubernetesUnavailable, Object, Refused, custom_path
from imago_operator.resource import (
    CLIENT_ID_LABEL,
    CLIENT_NAME_LABEL,
    CLIENT_NAMESPACE_LABEL,
    GROUP,
    PLURAL,
    VERSION,
    Ref,
)
from imago_operator.workers import list_workers

log = structlog.get_logger(__name__)

# A resource that nothing has looked at for so many rounds of its timer isn't seen by Kopf at all.
DEAF_ROUNDS = 10
# While no namespace can be read there is nothing to serve.
NAMESPACES_SECONDS = 5.0


class Sweeper:
    """Sweeps at intervals, for as long as the process lives, and knows which namespaces can be served."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._started = self._last = asyncio.get_running_loop().time()
        self._deaf: str | None = None
        self._served: tuple[str, ...] = ()
        self.namespaces_changed = asyncio.Event()
        """Set when a namespace that couldn't be read can be, so that Kopf has to be started with it."""

    def trouble(self) -> str | None:
        """Return why this process should be restarted, or None."""
        settings = self._context.settings
        # A sweep has deadlines in each of its requests: beyond this it doesn't just take long.
        if asyncio.get_running_loop().time() - self._last > 10 * settings.sweep_seconds + 60:
            return "the sweeper has stopped"
        return self._deaf

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            await self.run_once()
            self._last = asyncio.get_running_loop().time()
            await asyncio.sleep(self._context.settings.sweep_seconds)

    async def run_once(self) -> None:
        """Make sure of the streams, remove workers without a resource, look for deaf watches."""
        for chore in (self._context.streams.ensure_all, self._sweep_workers, self._look_for_changes):
            try:
                await chore()
            except (StreamsUnavailable, StreamConflict, KubernetesUnavailable, Refused, Changed) as error:
                metrics.SWEEP_FAILURES.inc()
                log.warning("a sweep didn't reach its end", error=f"{type(error).__name__}: {error}")
            except Exception:
                metrics.SWEEP_FAILURES.inc()
                log.exception("a sweep failed")

    async def choose_namespaces(self) -> tuple[str, ...]:
        """Return the namespaces that can be served, none where all are; waits for the first.

        One without the operator's Role, deleted or not yet there, must not keep the others from being served.
        """
        while not self._context.settings.everywhere:
            found = await self._readable()
            if found:
                self._served = found
                break
            log.warning("none of the namespaces can be read", namespaces=self._context.settings.watch_namespaces)
            await asyncio.sleep(NAMESPACES_SECONDS)
        self.namespaces_changed.clear()
        return self._served

    async def _readable(self) -> tuple[str, ...]:
        found = []
        for name in self._context.settings.watch_namespaces:
            try:
                await self._context.kubernetes.get(f"{custom_path(GROUP, VERSION, name, PLURAL)}?limit=1")
            except Refused:
                log.warning("a namespace can't be read: the operator has no Role there", watched=name)
            except KubernetesUnavailable:
                # Nothing is known of it: it stays as it was.
                if name in self._served or not self._served:
                    found.append(name)
            else:
                found.append(name)
        return tuple(found)

    async def _sweep_workers(self) -> None:
        if self._context.settings.dedicated_enabled:
            await sweep_workers(self._context)

    async def _look_for_changes(self) -> None:
        context = self._context
        deaf = None
        for namespace in (None,) if context.settings.everywhere else self._served:
            answer = await context.kubernetes.get(custom_path(GROUP, VERSION, namespace, PLURAL))
            unseen = [item for item in (answer or {}).get("items", ()) if self._unseen(item)]
            if unseen:
                deaf = f"nothing has looked at {unseen[0]['metadata']['namespace']}/{unseen[0]['metadata']['name']}"
        self._deaf = deaf
        if not context.settings.everywhere and set(await self._readable()) > set(self._served):
            log.info("a namespace can be served that couldn't be before")
            self.namespaces_changed.set()

    def _unseen(self, item: dict[str, Any]) -> bool:
        settings, metadata = self._context.settings, item["metadata"]
        patience = DEAF_ROUNDS * settings.resync_seconds
        young = utc_now() - datetime.fromisoformat(metadata["creationTimestamp"]) < timedelta(seconds=patience)
        foreign = (item.get("spec") or {}).get("installation", "default") != settings.installation
        if young or foreign or "deletionTimestamp" in metadata:
            return False
        ago = self._context.unseen_for(metadata["uid"])
        return (asyncio.get_running_loop().time() - self._started if ago is None else ago) > patience


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
