"""Background work that no single reconciliation can do: shared streams, orphaned workers, broken watches."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import structlog

from imago.core.times import utc_now
from imago.nats.streams import StreamConflict, StreamsUnavailable
from imago_operator import metrics
from imago_operator.apis.kubernetes import KubernetesRefused, KubernetesUnavailable, Object, ObjectConflict, custom_path
from imago_operator.context import OperatorContext, resource_path
from imago_operator.reconciler.workers import list_workers
from imago_operator.resource import (
    CLIENT_ID_LABEL,
    CLIENT_NAME_LABEL,
    CLIENT_NAMESPACE_LABEL,
    GROUP,
    PLURAL,
    VERSION,
    ResourceRef,
)

log = structlog.get_logger(__name__)

# Kopf's watch is broken if a resource was not reconciled for this many intervals of its timer.
MISSED_INTERVALS = 10
# How often the namespaces are checked as long as none can be read.
NAMESPACES_SECONDS = 5.0


class Sweeper:
    """Runs the background work at intervals, and determines which namespaces the operator can read."""

    def __init__(self, context: OperatorContext) -> None:
        self._context = context
        self._started = self._swept_at = context.clock()
        self._not_reconciled: str | None = None
        self._readable: tuple[str, ...] = ()
        self.namespaces_changed = asyncio.Event()
        """Set when a namespace becomes readable, so that Kopf has to be restarted with it."""

    def problem(self) -> str | None:
        """Return why this process should be restarted, or None."""
        # Each request of a sweep has a timeout, so a sweep that takes longer than this hangs.
        if self._context.clock() - self._swept_at > 10 * self._context.settings.sweep_seconds + 60:
            return "the sweeper has stopped"
        return self._not_reconciled

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await self.run_once()
            self._swept_at = self._context.clock()
            await asyncio.sleep(self._context.settings.sweep_seconds)

    async def run_once(self) -> None:
        """Ensure the streams, delete orphaned workers, and check that every resource is reconciled."""
        for step in (self._context.streams.ensure_all, self._delete_orphaned_workers, self._check_watches):
            try:
                await step()
            except (
                StreamsUnavailable,
                StreamConflict,
                KubernetesUnavailable,
                KubernetesRefused,
                ObjectConflict,
            ) as error:
                metrics.SWEEP_FAILURES.inc()
                log.warning("sweep.deferred", error=f"{type(error).__name__}: {error}")
            except Exception:
                metrics.SWEEP_FAILURES.inc()
                log.exception("sweep.failed")

    async def choose_namespaces(self) -> tuple[str, ...]:
        """Return the namespaces to watch, none if all are watched; wait until at least one can be read.

        A namespace without the operator's Role, because it was deleted or does not exist yet, does not affect others.
        """
        while not self._context.settings.watches_all_namespaces:
            readable = await self._find_readable()
            if readable:
                self._readable = readable
                break
            log.warning("namespaces.unreadable", namespaces=self._context.settings.watch_namespaces)
            await asyncio.sleep(NAMESPACES_SECONDS)
        self.namespaces_changed.clear()
        return self._readable

    async def _find_readable(self) -> tuple[str, ...]:
        readable = []
        for name in self._context.settings.watch_namespaces:
            try:
                await self._context.kubernetes.get(f"{custom_path(GROUP, VERSION, name, PLURAL)}?limit=1")
            except KubernetesRefused:
                log.warning("namespace.unreadable", watched=name, message="The operator has no Role in the namespace.")
            except KubernetesUnavailable:
                # Keep what was known.
                if name in self._readable or not self._readable:
                    readable.append(name)
            else:
                readable.append(name)
        return tuple(readable)

    async def _delete_orphaned_workers(self) -> None:
        if self._context.settings.dedicated_enabled:
            await delete_orphaned_workers(self._context)

    async def _check_watches(self) -> None:
        context = self._context
        problem = None
        for namespace in (None,) if context.settings.watches_all_namespaces else self._readable:
            resources = await context.kubernetes.get(custom_path(GROUP, VERSION, namespace, PLURAL))
            overdue = [item for item in (resources or {}).get("items", ()) if self._is_overdue(item)]
            if overdue:
                metadata = overdue[0]["metadata"]
                problem = f"{metadata['namespace']}/{metadata['name']} is not being reconciled"
        self._not_reconciled = problem
        if not context.settings.watches_all_namespaces and set(await self._find_readable()) > set(self._readable):
            log.info("namespaces.changed", message="Another namespace can be read; restarting Kopf with it.")
            self.namespaces_changed.set()

    def _is_overdue(self, item: dict[str, Any]) -> bool:
        settings, metadata = self._context.settings, item["metadata"]
        limit = MISSED_INTERVALS * settings.resync_seconds
        is_new = utc_now() - datetime.fromisoformat(metadata["creationTimestamp"]) < timedelta(seconds=limit)
        is_foreign = (item.get("spec") or {}).get("installation", "default") != settings.installation
        if is_new or is_foreign or "deletionTimestamp" in metadata:
            return False
        elapsed = self._context.seconds_since_reconcile(metadata["uid"])
        return (self._context.clock() - self._started if elapsed is None else elapsed) > limit


async def delete_orphaned_workers(context: OperatorContext) -> None:
    """Delete workers of dedicated lanes whose resource is gone."""
    namespace = context.settings.release_namespace
    for kind, item in reversed(await list_workers(context.kubernetes, namespace)):
        if await _is_orphaned(context, item["metadata"].get("labels") or {}):
            await context.kubernetes.delete(kind.path(namespace, item["metadata"]["name"]), uid=item["metadata"]["uid"])
            metrics.SWEPT.labels(kind.kind).inc()
            log.info("worker.orphan-deleted", kind=kind.kind, worker=item["metadata"]["name"])


async def _is_orphaned(context: OperatorContext, labels: dict[str, str]) -> bool:
    namespace, name = labels.get(CLIENT_NAMESPACE_LABEL), labels.get(CLIENT_NAME_LABEL)
    watched = context.settings.watches_all_namespaces or namespace in context.settings.watch_namespaces
    if not namespace or not name or not watched:
        # The operator cannot find out whether the resource exists.
        return False
    resource: Object | None = await context.kubernetes.get(resource_path(ResourceRef(namespace, name, "")))
    if resource is None:
        return True
    bound = (resource.get("status") or {}).get("clientId")
    return bound is not None and bound != labels[CLIENT_ID_LABEL]
