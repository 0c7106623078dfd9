"""Kubernetes and Imago's API in memory, as far as the operator uses them, with a simulated crash at any call.

They allow what real servers don't: every interleaving and a crash at every call, thousands of times. The cluster tier
shows that they behave like the real ones, because it runs the same reconciliations against those.
"""

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
from imago_operator.apis.imago_api import ApiRefused, ApiUnavailable, ClientOwned, ClientState, KeyTaken, RegisteredKey
from imago_operator.apis.kubernetes import ObjectConflict
from imago_operator.context import OperatorContext
from imago_operator.resource import ResourceRef
from imago_operator.settings import OperatorSettings
from tests.support.operator import condition

Object = dict[str, Any]
NAMESPACE_UID = "ns-uid"
SECRETS_PATH = "/api/v1/namespaces/photos/secrets"


class SimulatedCrash(BaseException):
    """The process is killed at this call."""


class FaultInjector:
    """Counts calls, crashes at one of them (before or after its effect), and yields to other tasks in between."""

    def __init__(self) -> None:
        self.calls = 0
        self.crash_at: int | None = None
        self.after_effect = False
        self.api_unavailable = False
        self.before_effect: Callable[[], Awaitable[None]] | None = None

    def crash_at_call(self, number: int, *, after_effect: bool) -> None:
        """Crash at a call, counted from 1 from now on."""
        self.calls, self.crash_at, self.after_effect = 0, number, after_effect

    async def around(self, effect: Callable[[], Any]) -> Any:
        """Make a call with this effect."""
        self.calls += 1
        crashes = self.calls == self.crash_at
        if crashes and not self.after_effect:
            raise SimulatedCrash
        if self.before_effect is not None:
            await self.before_effect()
        result = effect()
        if crashes:
            raise SimulatedCrash
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


class FakeKubernetes:
    """Objects by path, with resource versions."""

    def __init__(self, faults: FaultInjector) -> None:
        self._faults = faults
        self._versions = itertools.count(100)
        self.objects: dict[str, Object] = {
            "/api/v1/namespaces/photos": {"metadata": {"uid": NAMESPACE_UID}},
            "/api/v1/namespaces/kube-system": {"metadata": {"uid": "cluster"}},
        }
        self.writes = 0

    def add(self, body: Object) -> ResourceRef:
        """Store an ImagoClient."""
        meta = body["metadata"]
        self.objects[imc_path(meta["name"], meta["namespace"])] = body
        return ResourceRef(meta["namespace"], meta["name"], meta["uid"])

    def secret(self, name: str) -> Object | None:
        """Return a Secret."""
        return self.objects.get(f"{SECRETS_PATH}/{name}")

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
                raise ObjectConflict("already exists")
            self.writes += 1
            stored = copy.deepcopy(body)
            stored["metadata"] |= {"uid": str(uuid4()), "resourceVersion": str(next(self._versions))}
            self.objects[target] = stored
            return stored

        return await self._faults.around(effect)

    async def patch(self, path: str, body: Object) -> Object:
        """Apply a merge patch to the version that it names."""

        def effect() -> Object:
            stored = self.objects.get(path.removesuffix("/status"))
            if stored is None or body["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"]:
                raise ObjectConflict("another version")
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
                raise ObjectConflict("another uid")
            self.objects.pop(path, None)

        await self._faults.around(effect)


class FakeImagoApi:
    """Imago's clients and keys."""

    def __init__(self, faults: FaultInjector) -> None:
        self._faults = faults
        self.clients: dict[UUID, ClientState] = {}
        self.digests: dict[str, str] = {}
        self.bodies: dict[UUID, Object] = {}
        self.registrations: list[str] = []
        self.now: datetime | None = None

    async def get(self, client: UUID) -> ClientState | None:
        """Return a client."""
        return await self._call(lambda: self.clients.get(client))

    async def put(self, client: UUID, body: Object) -> ClientState:
        """Create or replace a client."""

        def effect() -> ClientState:
            state = self.clients.get(client)
            if state is not None and state.owner != body["owner"]:
                raise ClientOwned("another owner")
            if state is not None and state.erasure is not None:
                raise ApiRefused("The client is being erased.")
            lane = {"dedicated": client_token(client)}.get(body.get("lane", ""), body.get("lane", "standard"))
            usage = {"storage_bytes": 0, "images": 0, "ai_calls_this_month": 0}
            known = state or ClientState(client, body["owner"], True, lane, 0, usage, {}, None)
            self.clients[client] = replace(known, active=body["active"], lane=lane)
            self.bodies[client] = body
            return self.clients[client]

        return await self._call(effect)

    async def deactivate(self, client: UUID, *, owner: str) -> None:
        """Deactivate a client."""
        await self._call(lambda: self._is_owned(client, owner) and self.change_client(client, active=False))

    async def erase(self, client: UUID, *, owner: str) -> None:
        """Start an erasure; a test ends it by removing the client."""
        erasure = {"images_erased": 0}
        await self._call(lambda: self._is_owned(client, owner) and self.change_client(client, erasure=erasure))

    async def register_key(self, client: UUID, key: ApiKey, *, owner: str) -> RegisteredKey:
        """Register a key."""

        def effect() -> RegisteredKey:
            self._require(client, owner)
            state = self.clients[client].keys.get(key.key_id)
            digest = key.wire_digest.hex()
            if self.digests.get(key.key_id, digest) != digest or (state and state.revoked_at):
                raise KeyTaken("taken")
            if state is None:
                self.registrations.append(key.key_id)
                state = RegisteredKey(key.key_id, self.now or utc_now(), None, None)
            self.digests[key.key_id] = digest
            return self._store_key(client, replace(state, expires_at=None))

        return await self._call(effect)

    async def expire_key(self, client: UUID, key_id: str, at: datetime, *, owner: str) -> RegisteredKey:
        """Set the expiry of a key."""

        def effect() -> RegisteredKey:
            self._require(client, owner)
            return self.change_key(client, key_id, expires_at=at)

        return await self._call(effect)

    async def revoke_key(self, client: UUID, key_id: str, *, owner: str) -> None:
        """Revoke a key."""

        def effect() -> None:
            self._require(client, owner)
            self.change_key(client, key_id, revoked_at=utc_now() - timedelta(seconds=1))

        await self._call(effect)

    def endless_keys(self, client: UUID) -> list[str]:
        """Return the ids of valid keys without an expiry."""
        return [
            key.key_id
            for key in self.clients[client].keys.values()
            if key.expires_at is None and key.revoked_at is None
        ]

    def change_client(self, client: UUID, **changes: Any) -> None:
        """Change a client as an administrator does."""
        self.clients[client] = replace(self.clients[client], **changes)

    def change_key(self, client: UUID, key_id: str, **changes: Any) -> RegisteredKey:
        """Change a key as an administrator does."""
        return self._store_key(client, replace(self.clients[client].keys[key_id], **changes))

    async def _call(self, effect: Callable[[], Any]) -> Any:
        if self._faults.api_unavailable:
            raise ApiUnavailable("no reply")
        return await self._faults.around(effect)

    def _require(self, client: UUID, owner: str) -> None:
        if not self._is_owned(client, owner):
            raise ApiRefused("no such client")

    def _is_owned(self, client: UUID, owner: str) -> bool:
        state = self.clients.get(client)
        if state is not None and state.owner != owner:
            raise ClientOwned("another owner")
        return state is not None

    def _store_key(self, client: UUID, key: RegisteredKey) -> RegisteredKey:
        self.change_client(client, keys={**self.clients[client].keys, key.key_id: key})
        return key


class FakeStreamManager:
    """The streams of dedicated lanes."""

    def __init__(self, faults: FaultInjector) -> None:
        self._faults = faults
        self.lanes: set[str] = set()

    async def ensure_lane(self, lane: str) -> None:
        """Create a lane."""
        await self._faults.around(lambda: self.lanes.add(lane))

    async def delete_lane(self, lane: str) -> None:
        """Delete a lane."""
        await self._faults.around(lambda: self.lanes.discard(lane))

    async def lane_exists(self, lane: str) -> bool:
        """Return whether a lane exists."""
        return bool(await self._faults.around(lambda: lane in self.lanes))

    async def ensure_all(self) -> None:
        """Do nothing."""


class FakeWorld:
    """Everything around the operator, in memory; each `operator()` is another operator process in it."""

    def __init__(self, **settings: Any) -> None:
        self.faults = FaultInjector()
        self.kubernetes = FakeKubernetes(self.faults)
        self.api = FakeImagoApi(self.faults)
        self.streams = FakeStreamManager(self.faults)
        self.events: list[tuple[str, str]] = []
        self.now = 0.0
        self._settings = {"watch_namespaces": "photos", **settings}

    def operator(self) -> OperatorContext:
        """Return the parts of one operator process; its clock shows `now`."""
        settings = OperatorSettings(api_key="k", api_url="http://imago", cluster_id="cluster", **self._settings)
        parts: Any = (self.kubernetes, self.api, self.streams)
        return OperatorContext(settings, *parts, (), self._emit_event, clock=lambda: self.now)

    def body(self, name: str = "atelier") -> Object:
        """Return an ImagoClient."""
        return self.kubernetes.objects[imc_path(name)]

    def ready_reason(self, name: str = "atelier") -> str:
        """Return the reason of a resource's Ready condition."""
        return str(condition(self.body(name), "Ready")["reason"])

    def _emit_event(self, body: Object, *, warning: bool, reason: str, message: str) -> None:
        self.events.append((reason, message))


async def crash_at_every_call(scenario: Callable[[int], Awaitable[bool]]) -> None:
    """Run a scenario with a crash at its first call, its second, and so on, until it returns that it did not crash."""
    for number in itertools.count(1):
        if not await scenario(number):
            assert number > 4, "the scenario makes calls to crash at"
            return


def imc_path(name: str, namespace: str = "photos") -> str:
    """Return the path of an ImagoClient."""
    return f"/apis/imago.dev/v1alpha1/namespaces/{namespace}/imagoclients/{name}"


def owner(name: str) -> str:
    """Return the owner of a resource in the fake world."""
    return f"cluster/{NAMESPACE_UID}/{name}"


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
