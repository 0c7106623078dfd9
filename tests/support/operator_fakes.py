"""Kubernetes and Imago's API in memory, as far as a pass of the operator can see them, with a death at any call.

They are for what real servers can't give: every interleaving and every point of death, thousands of times. That they
behave like the real ones is held by the cluster tier, which runs the same passes against those.
"""

import asyncio
import copy
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from imago.core.clients.keys import ApiKey
from imago.core.lanes.model import client_token
from imago.core.times import utc_now
from imago_operator.context import Context
from imago_operator.credentials import KeyState
from imago_operator.imago_api import ApiRefused, ApiUnavailable, ClientOwned, ClientState, KeyTaken
from imago_operator.kubernetes import Changed
from imago_operator.resource import Ref
from imago_operator.settings import OperatorSettings

Object = dict[str, Any]
NAMESPACE_UID = "ns-uid"


class Death(BaseException):
    """The process is killed here."""


class Faults:
    """Counts calls, kills at one of them (before or after its effect), and gives way to others in between."""

    def __init__(self) -> None:
        self.calls = 0
        self.die_at: int | None = None
        self.after = False
        self.away = False
        self.pause: Callable[[], Awaitable[None]] | None = None

    async def around(self, effect: Callable[[], Any]) -> Any:
        """Do a call's effect."""
        self.calls += 1
        dies = self.calls == self.die_at
        if dies and not self.after:
            raise Death
        if self.pause is not None:
            await self.pause()
        result = effect()
        if dies:
            raise Death
        return copy.deepcopy(result)


def resource(name: str, *, namespace: str = "photos", annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    """Build an ImagoClient as the API server would store it."""
    metadata = {
        "namespace": namespace,
        "name": name,
        "uid": str(uuid4()),
        "generation": 1,
        "resourceVersion": "1",
        "annotations": annotations or {},
    }
    return {"apiVersion": "imago.dev/v1alpha1", "kind": "ImagoClient", "metadata": metadata, "spec": spec}


class MemoryKubernetes:
    """Objects by path, with versions."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._versions = itertools.count(100)
        self.objects: dict[str, Object] = {
            "/api/v1/namespaces/photos": {"metadata": {"uid": NAMESPACE_UID}},
            "/api/v1/namespaces/kube-system": {"metadata": {"uid": "cluster"}},
        }
        self.writes = 0

    def add(self, body: Object) -> Ref:
        """Store an ImagoClient."""
        meta = body["metadata"]
        self.objects[imc_path(meta["name"], meta["namespace"])] = body
        return Ref(meta["namespace"], meta["name"], meta["uid"])

    def secret(self, name: str) -> Object | None:
        """Return a Secret."""
        return self.objects.get(f"/api/v1/namespaces/photos/secrets/{name}")

    @property
    def secrets(self) -> list[Object]:
        """All Secrets."""
        return [body for path, body in self.objects.items() if "/secrets/" in path]

    async def get(self, path: str) -> Object | None:
        """Return an object."""
        return await self._faults.around(lambda: self.objects.get(path))

    async def create(self, path: str, body: Object) -> Object:
        """Create an object."""

        def effect() -> Object:
            target = f"{path}/{body['metadata']['name']}"
            if target in self.objects:
                raise Changed("exists")
            self.writes += 1
            stored = copy.deepcopy(body)
            stored["metadata"] |= {"uid": str(uuid4()), "resourceVersion": str(next(self._versions))}
            self.objects[target] = stored
            return stored

        return await self._faults.around(effect)

    async def patch(self, path: str, body: Object) -> Object:
        """Merge a patch, on the version that it names."""

        def effect() -> Object:
            stored = self.objects.get(path.removesuffix("/status"))
            if stored is None or body["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"]:
                raise Changed("not that version")
            self.writes += 1
            _merge(stored, body)
            stored["metadata"]["resourceVersion"] = str(next(self._versions))
            return stored

        return await self._faults.around(effect)

    async def apply(self, path: str, body: Object) -> Object:
        """Store an object."""

        def effect() -> Object:
            self.writes += 1
            stored = copy.deepcopy(body)
            stored["metadata"] |= {"uid": str(uuid4()), "resourceVersion": str(next(self._versions))}
            self.objects[path.partition("?")[0]] = stored
            return stored

        return await self._faults.around(effect)

    async def delete(self, path: str, *, uid: str | None = None) -> None:
        """Delete an object."""

        def effect() -> None:
            stored = self.objects.get(path)
            if stored is not None and uid is not None and stored["metadata"]["uid"] != uid:
                raise Changed("another one")
            self.objects.pop(path, None)

        await self._faults.around(effect)


class MemoryApi:
    """Imago's clients and keys."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self.clients: dict[UUID, ClientState] = {}
        self.digests: dict[str, str] = {}
        self.bodies: dict[UUID, Object] = {}
        self.registrations: list[str] = []
        self.now: datetime | None = None

    async def get(self, client: UUID) -> ClientState | None:
        """Return a client."""
        return await self._ask(lambda: self.clients.get(client))

    async def put(self, client: UUID, body: Object) -> ClientState:
        """Make a client what is given."""

        def effect() -> ClientState:
            state = self.clients.get(client)
            if state is not None and state.owner != body["owner"]:
                raise ClientOwned("another's")
            if state is not None and state.erasure is not None:
                raise ApiRefused("The client is being erased.")
            lane = {"dedicated": client_token(client)}.get(body.get("lane", ""), body.get("lane", "standard"))
            usage = {"storage_bytes": 0, "images": 0, "ai_calls_this_month": 0}
            known = state or ClientState(client, body["owner"], True, lane, 0, usage, {}, None)
            self.clients[client] = replace(known, active=body["active"], lane=lane)
            self.bodies[client] = body
            return self.clients[client]

        return await self._ask(effect)

    async def deactivate(self, client: UUID, *, owner: str) -> None:
        """Deactivate a client."""
        await self._ask(lambda: self._owned(client, owner) and self._replace(client, active=False))

    async def erase(self, client: UUID, *, owner: str) -> None:
        """Erase a client; the memory of it goes with the next look."""
        await self._ask(lambda: self._owned(client, owner) and self._replace(client, erasure={"images_erased": 0}))

    async def register_key(self, client: UUID, key: ApiKey, *, owner: str) -> KeyState:
        """Register a key."""

        def effect() -> KeyState:
            self._must(client, owner)
            state = self.clients[client].keys.get(key.key_id)
            digest = key.wire_digest.hex()
            if self.digests.get(key.key_id, digest) != digest or (state and state.revoked_at):
                raise KeyTaken("taken")
            if state is None:
                self.registrations.append(key.key_id)
                state = KeyState(key.key_id, self.now or utc_now(), None, None)
            self.digests[key.key_id] = digest
            return self._key(client, replace(state, expires_at=None))

        return await self._ask(effect)

    async def expire_key(self, client: UUID, key_id: str, at: datetime, *, owner: str) -> KeyState:
        """Let a key expire."""

        def effect() -> KeyState:
            self._must(client, owner)
            return self._key(client, replace(self.clients[client].keys[key_id], expires_at=at))

        return await self._ask(effect)

    async def revoke_key(self, client: UUID, key_id: str, *, owner: str) -> None:
        """Revoke a key."""

        def effect() -> None:
            self._must(client, owner)
            state = self.clients[client].keys[key_id]
            self._key(client, replace(state, revoked_at=utc_now() - timedelta(seconds=1)))

        await self._ask(effect)

    def opening(self, client: UUID) -> list[str]:
        """Return the ids of keys that open without an end."""
        return [
            state.key_id
            for state in self.clients[client].keys.values()
            if state.expires_at is None and state.revoked_at is None
        ]

    async def _ask(self, effect: Callable[[], Any]) -> Any:
        if self._faults.away:
            raise ApiUnavailable("no answer")
        return await self._faults.around(effect)

    def _must(self, client: UUID, owner: str) -> None:
        if not self._owned(client, owner):
            raise ApiRefused("no such client")

    def _owned(self, client: UUID, owner: str) -> bool:
        state = self.clients.get(client)
        if state is not None and state.owner != owner:
            raise ClientOwned("another's")
        return state is not None

    def _replace(self, client: UUID, **changes: Any) -> None:
        self.clients[client] = replace(self.clients[client], **changes)

    def _key(self, client: UUID, state: KeyState) -> KeyState:
        self._replace(client, keys={**self.clients[client].keys, state.key_id: state})
        return state


class MemoryStreamManager:
    """Streams of lanes."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self.lanes: set[str] = set()

    async def ensure_lane(self, lane: str) -> None:
        """Make a lane."""
        await self._faults.around(lambda: self.lanes.add(lane))

    async def delete_lane(self, lane: str) -> None:
        """Drop a lane."""
        await self._faults.around(lambda: self.lanes.discard(lane))

    async def lane_exists(self, lane: str) -> bool:
        """Tell whether a lane is there."""
        return bool(await self._faults.around(lambda: lane in self.lanes))

    async def ensure_all(self) -> None:
        """Do nothing."""


class Memory:
    """A world in memory; every `operator()` is another process of the operator in it."""

    def __init__(self, **settings: Any) -> None:
        self.faults = Faults()
        self.kubernetes = MemoryKubernetes(self.faults)
        self.api = MemoryApi(self.faults)
        self.streams = MemoryStreamManager(self.faults)
        self.events: list[tuple[str, str]] = []
        self.templates: tuple[Object, ...] = ()
        self._settings = settings

    def operator(self, faults: Faults | None = None) -> Context:
        """Return the parts of one process; `faults` are its own where several run at once."""
        settings = OperatorSettings(
            api_key="k", api_url="http://imago", watch_namespaces="photos", cluster_id="cluster", **self._settings
        )
        parts: Any = (self.kubernetes, self.api, self.streams)
        return Context(settings, *parts, self.templates, self._announce)

    def _announce(self, body: Object, *, warning: bool, reason: str, message: str) -> None:
        self.events.append((reason, message))


def imc_path(name: str, namespace: str = "photos") -> str:
    """Return the path of an ImagoClient."""
    return f"/apis/imago.dev/v1alpha1/namespaces/{namespace}/imagoclients/{name}"


def owner(name: str) -> str:
    """Return the owner of a resource of the world's."""
    return f"cluster/{NAMESPACE_UID}/{name}"


async def give_way() -> None:
    """Let others run."""
    await asyncio.sleep(0)


def _merge(target: Object, patch: Object) -> None:
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, dict) and isinstance(target.get(name), dict):
            _merge(target[name], value)
        else:
            target[name] = (
                copy.deepcopy({k: v for k, v in value.items() if v is not None})
                if isinstance(value, dict)
                else copy.deepcopy(value)
            )
