"""The context of every reconciliation: settings, connections, owners, and a lock for each resource."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakValueDictionary

from imago.nats.streams import StreamManager
from imago_operator.apis.imago_api import ImagoApi
from imago_operator.apis.kubernetes import Kubernetes, Object, custom_path, namespace_path
from imago_operator.metrics import ResourceMetrics
from imago_operator.resource import GROUP, PLURAL, VERSION, ResourceRef, owner_of
from imago_operator.settings import OperatorSettings

SYSTEM_NAMESPACE = "kube-system"


class NamespaceNotFound(Exception):
    """The namespace does not exist, so no resource in it can be reconciled."""


class EventEmitter(Protocol):
    """A function that posts a Kubernetes Event about a resource."""

    def __call__(self, body: Object, *, warning: bool, reason: str, message: str) -> None:
        """Post the Event in the background."""


@dataclass
class OperatorContext:
    """The operator's parts, wired by `main`."""

    settings: OperatorSettings
    kubernetes: Kubernetes
    api: ImagoApi
    streams: StreamManager
    templates: tuple[Object, ...]
    emit_event: EventEmitter
    metrics: ResourceMetrics = field(default_factory=ResourceMetrics)
    clock: Callable[[], float] = time.monotonic
    _cluster: str | None = None
    _owners: dict[str, str] = field(default_factory=dict)
    _reconciled_at: dict[str, float] = field(default_factory=dict)
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    def lock_for(self, ref: ResourceRef) -> asyncio.Lock:
        """Return the lock of a resource: Kopf runs its timer concurrently with its change handlers."""
        return self._locks.setdefault(ref.uid, asyncio.Lock())

    async def owner_for(self, ref: ResourceRef) -> str:
        """Return the owner that a resource's client has in Imago; raise NamespaceNotFound.

        The cache is keyed by the resource's uid, because a recreated namespace of the same name is another owner.
        """
        owner = self._owners.get(ref.uid)
        if owner is None:
            cluster = self.settings.cluster_id or await self._cluster_id()
            namespace_uid = await self._namespace_uid(ref.namespace)
            owner = self._owners[ref.uid] = owner_of(cluster=cluster, namespace_uid=namespace_uid, name=ref.name)
        return owner

    async def is_namespace_terminating(self, ref: ResourceRef) -> bool:
        """Return whether the resource's namespace is terminating or gone, and the operator's Role with it."""
        namespace = await self.kubernetes.get(namespace_path(ref.namespace))
        return namespace is None or (namespace.get("status") or {}).get("phase") == "Terminating"

    def record_reconcile(self, ref: ResourceRef) -> None:
        """Record that a resource is being reconciled now."""
        self._reconciled_at[ref.uid] = self.clock()

    def seconds_since_reconcile(self, uid: str) -> float | None:
        """Return how long ago a resource was last reconciled; None if this process never did."""
        last = self._reconciled_at.get(uid)
        return None if last is None else self.clock() - last

    def forget(self, ref: ResourceRef) -> None:
        """Drop everything remembered about a deleted resource."""
        self._owners.pop(ref.uid, None)
        self._reconciled_at.pop(ref.uid, None)
        self.metrics.forget(ref.uid)

    async def _cluster_id(self) -> str:
        if self._cluster is None:
            self._cluster = await self._namespace_uid(SYSTEM_NAMESPACE)
        return self._cluster

    async def _namespace_uid(self, name: str) -> str:
        namespace = await self.kubernetes.get(namespace_path(name))
        if namespace is None:
            raise NamespaceNotFound(f"namespace {name} not found")
        return str(namespace["metadata"]["uid"])


def resource_path(ref: ResourceRef) -> str:
    """Return the API path of a resource."""
    return custom_path(GROUP, VERSION, ref.namespace, PLURAL, ref.name)
