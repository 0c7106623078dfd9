"""What the tests of the operator share: the cluster, the operator at work on it, Imago behind it."""

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
# One to live in, one to be a stranger in, two that tests delete.
TENANTS, STRANGERS, DOOMED, DOOMED_TOO = "tenants", "strangers", "doomed", "doomed-too"
WATCHED = [TENANTS, STRANGERS, DOOMED, DOOMED_TOO]


class Imago:
    """Imago's API, as administrators and clients see it."""

    def __init__(self, session: aiohttp.ClientSession, platform: Platform) -> None:
        self._session = session
        self._platform = platform

    async def ask(self, method: str, path: str, *, key: str = ADMIN_KEY, **options: Any) -> tuple[int, Any]:
        """Ask, and return status and answer."""
        url = f"{self._platform.apis[0].url}{path}"
        async with self._session.request(method, url, headers={"X-API-Key": key}, **options) as answer:
            return answer.status, await answer.json(content_type=None)

    async def client(self, uuid: str) -> dict[str, Any] | None:
        """Return a client."""
        status, answer = await self.ask("GET", f"/auth/clients/{uuid}")
        return answer if status == 200 else None

    async def opens(self, key: str) -> bool:
        """Tell whether a key opens."""
        return (await self.ask("GET", "/auth/me", key=key))[0] == 200

    async def upload(self, key: str, **options: Any) -> tuple[int, Any]:
        """Upload an image."""
        form = aiohttp.FormData()
        form.add_field("file", encoded(**options), filename="photo.jpg", content_type="image/jpeg")
        return await self.ask("POST", "/images/upload", key=key, data=form)


@dataclass
class World:
    """All there is: the cluster, the operator, Imago behind it."""

    cluster: Access
    kube: Kube
    operator: OperatorProcess
    platform: Platform
    imago: Imago

    async def start_api(self) -> None:
        """Start Imago's API, and wait until it is ready."""
        self.platform.apis[0].start(wait=False)
        await asyncio.to_thread(self.platform.apis[0].wait_ready, 120)

    def name(self, what: str = "client") -> str:
        """Return a name that no other test has."""
        return f"{what}-{secrets.token_hex(3)}"


async def served(world: World, namespace: str = TENANTS, name: str = "", **spec: Any) -> tuple[str, str, Any]:
    """Create a resource and wait for its key; return its name, the key and the resource."""
    name = name or world.name()
    await world.kube.make(namespace, name, **spec)
    ready = await world.kube.ready(namespace, name)
    return name, await key_of(world, namespace, name), ready


async def key_of(world: World, namespace: str, name: str, secret: str = "") -> str:
    held = await world.kube.secret(namespace, secret or f"{name}-imago")
    assert held is not None
    assert "next-api-key" not in held
    return held["api-key"]


async def other_key(world: World, name: str, before: str, *, timeout: float = 60) -> str:
    """Wait until the Secret holds another key, and nothing half done."""

    async def look() -> str | None:
        held = await world.kube.secret(TENANTS, f"{name}-imago")
        fresh = held is not None and "next-api-key" not in held and held.get("api-key") not in (None, before)
        return held["api-key"] if held is not None and fresh else None

    return await world.kube.until(look, what="another key", timeout=timeout, of=(TENANTS, name))


async def shuts(world: World, key: str, *, timeout: float = 30) -> None:
    async def look() -> bool:
        return not await world.imago.opens(key)

    await world.kube.until(look, what="the key to open nothing any more", timeout=timeout)


async def opens_again(world: World, key: str, *, timeout: float = 60) -> None:
    async def look() -> bool:
        return await world.imago.opens(key)

    await world.kube.until(look, what="the key to open", timeout=timeout)
