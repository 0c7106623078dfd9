"""The operator on a test cluster, with Imago: helpers for the operator's cluster tests."""

import asyncio
import secrets
from dataclasses import dataclass
from typing import Any

import aiohttp

from devtools.kubernetes.access import Access
from tests.faults.platform import ADMIN_KEY, Platform
from tests.support.images import encoded
from tests.support.operator import Kube, OperatorProcess

RELEASE = "imago-release"
# The namespace of most tests, one for other owners, one that a test deletes, and one that a test recreates.
TENANTS, OTHER_TENANTS, DELETED, RECREATED = "tenants", "other-tenants", "deleted", "recreated"
WATCHED = [TENANTS, OTHER_TENANTS, DELETED, RECREATED]


class ImagoServer:
    """Imago's API, for administrators and clients."""

    def __init__(self, session: aiohttp.ClientSession, platform: Platform) -> None:
        self._session = session
        self._platform = platform

    async def call(self, method: str, path: str, *, key: str = ADMIN_KEY, **options: Any) -> tuple[int, Any]:
        """Send a request and return status and body."""
        url = f"{self._platform.apis[0].url}{path}"
        async with self._session.request(method, url, headers={"X-API-Key": key}, **options) as response:
            return response.status, await response.json(content_type=None)

    async def client(self, uuid: str) -> dict[str, Any] | None:
        """Return a client."""
        status, body = await self.call("GET", f"/auth/clients/{uuid}")
        return body if status == 200 else None

    async def is_accepted(self, key: str) -> bool:
        """Return whether the API accepts a key."""
        return (await self.call("GET", "/auth/me", key=key))[0] == 200

    async def upload(self, key: str, **options: Any) -> tuple[int, Any]:
        """Upload an image."""
        form = aiohttp.FormData()
        form.add_field("file", encoded(**options), filename="photo.jpg", content_type="image/jpeg")
        return await self.call("POST", "/images/upload", key=key, data=form)


@dataclass
class OperatorCluster:
    """The cluster, the operator on it, and Imago."""

    cluster: Access
    kube: Kube
    operator: OperatorProcess
    platform: Platform
    imago: ImagoServer

    async def start_api(self) -> None:
        """Start Imago's API and wait until it is ready."""
        self.platform.apis[0].start(wait=False)
        await asyncio.to_thread(self.platform.apis[0].wait_ready, 120)

    def name(self, what: str = "client") -> str:
        """Return a name that no other test uses."""
        return f"{what}-{secrets.token_hex(3)}"


async def create_ready(
    world: OperatorCluster, namespace: str = TENANTS, name: str = "", **spec: Any
) -> tuple[str, str, Any]:
    """Create a resource and wait until it is Ready; return its name, its key and the resource."""
    name = name or world.name()
    await world.kube.make(namespace, name, **spec)
    ready = await world.kube.ready(namespace, name)
    return name, await key_of(world, namespace, name), ready


async def key_of(world: OperatorCluster, namespace: str, name: str, secret: str = "") -> str:
    held = await world.kube.secret(namespace, secret or f"{name}-imago")
    assert held is not None
    assert "next-api-key" not in held
    return held["api-key"]


async def other_key(world: OperatorCluster, name: str, before: str, *, timeout: float = 60) -> str:
    """Wait until the Secret contains another key and no next key; return the key."""

    async def look() -> str | None:
        held = await world.kube.secret(TENANTS, f"{name}-imago")
        fresh = held is not None and "next-api-key" not in held and held.get("api-key") not in (None, before)
        return held["api-key"] if held is not None and fresh else None

    return await world.kube.until(look, what="another key", timeout=timeout, of=(TENANTS, name))


async def wait_rejected(world: OperatorCluster, key: str, *, timeout: float = 30) -> None:
    async def look() -> bool:
        return not await world.imago.is_accepted(key)

    await world.kube.until(look, what="the key to be rejected", timeout=timeout)


async def wait_accepted(world: OperatorCluster, key: str, *, timeout: float = 60) -> None:
    async def look() -> bool:
        return await world.imago.is_accepted(key)

    await world.kube.until(look, what="the key to be accepted", timeout=timeout)
