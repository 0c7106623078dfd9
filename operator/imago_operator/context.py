"""What every pass works with: settings, connections, owners, and a lock for each resource."""

import asyncio
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakValueDictionary

from imago.nats.streams import StreamManager
from imago_operator.imago_api import ImagoApi
from imago_operator.kubernetes import Kubernetes, Object, custom_path, namespace_path
from imago_operator.metrics import Conditions
from imago_operator.resource import GROUP, PLURAL, VERSION, Ref, owner_of
from imago_operator.settings import OperatorSettings

SYSTEM_NAMESPACE = "kube-system"


class NamespaceGone(Exception):
    """A namespace that can't be found: nothing in it can be served."""


class Announce(Protocol):
    """Tells people of something by a Kubernetes Event about a resource."""

    def __call__(self, body: Object, *, warning: bool, reason: str, message: str) -> None:
        """Post the Event; returns at once."""


@dataclass
class Context:
    """The operator's parts, wired by `main`."""

    settings: OperatorSettings
    kubernetes: Kubernetes
    api: ImagoApi
    streams: StreamManager
    templates: tuple[Object, ...]
    announce: Announce
    conditions: Conditions = field(default_factory=Conditions)
    _cluster: str | None = None
    _owners: dict[str, str] = field(default_factory=dict)
    _passes: dict[str, float] = field(default_factory=dict)
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    def lock(self, ref: Ref) -> asyncio.Lock:
        """Return the lock of a resource: timers run beside handlers, and only one may be at it."""
        return self._locks.setdefault(ref.uid, asyncio.Lock())

    async def owner(self, ref: Ref) -> str:
        """Return the owner that a resource's client has; raise NamespaceGone.

        Remembered by the resource's uid, never by the namespace's name: a namespace made anew is another owner.
        """
        known = self._owners.get(ref.uid)
        if known is None:
            cluster = self.settings.cluster_id or await self._cluster_id()
            namespace_uid = await self._uid(ref.namespace)
            known = self._owners[ref.uid] = owner_of(cluster=cluster, namespace_uid=namespace_uid, name=ref.name)
        return known

    async def terminating(self, ref: Ref) -> bool:
        """Tell whether a resource's namespace is about to go, or gone: its Secrets go with it, and so did our Role."""
        found = await self.kubernetes.get(namespace_path(ref.namespace))
        return found is None or (found.get("status") or {}).get("phase") == "Terminating"

    def note_pass(self, ref: Ref) -> None:
        """Note that a resource was looked at just now."""
        self._passes[ref.uid] = asyncio.get_running_loop().time()

    def unseen_for(self, uid: str) -> float | None:
        """Return how many seconds ago a resource was looked at last; None where it never was."""
        last = self._passes.get(uid)
        return None if last is None else asyncio.get_running_loop().time() - last

    def forget(self, ref: Ref) -> None:
        """Forget a resource that is gone."""
        self._owners.pop(ref.uid, None)
        self._passes.pop(ref.uid, None)
        self.conditions.forget(ref.uid)

    async def _cluster_id(self) -> str:
        if self._cluster is None:
            self._cluster = await self._uid(SYSTEM_NAMESPACE)
        return self._cluster

    async def _uid(self, namespace: str) -> str:
        found = await self.kubernetes.get(namespace_path(namespace))
        if found is None:
            raise NamespaceGone(f"there is no namespace {namespace}")
        return str(found["metadata"]["uid"])


def resource_path(ref: Ref) -> str:
    """Return the path of a resource."""
    return custom_path(GROUP, VERSION, ref.namespace, PLURAL, ref.name)
