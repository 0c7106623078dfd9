"""What the tests of the operator share: an installation of Imago, and the operator at work on the test cluster."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.faults.platform import ADMIN_KEY, Platform
from tests.support.images import encoded
from tests.support.kubernetes.access import Access
from tests.support.kubernetes.binaries import Missing
from tests.support.operator import ACCOUNT, OPERATOR_KEY, Kube, OperatorProcess, install, write_templates

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


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """An installation of Imago for the session, without workers."""
    built = Platform(tmp_path_factory.mktemp("imago"), apis=1, OPERATOR_API_KEY=OPERATOR_KEY)
    built.apis[0].start(wait=False)
    built.apis[0].wait_ready(120)
    yield built
    built.close()


@pytest.fixture(scope="session")
def operator_process(
    control_plane: Access, platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """The operator, under its own ServiceAccount."""
    directory: Path = tmp_path_factory.mktemp("operator")
    try:
        install(control_plane, WATCHED, RELEASE)
    except Missing as missing:
        pytest.skip(str(missing))
    kubeconfig = control_plane.kubeconfig_of(ACCOUNT, RELEASE, directory / "operator.kubeconfig")
    process = OperatorProcess(
        kubeconfig,
        platform,
        directory,
        OPERATOR_WATCH_NAMESPACES=",".join(WATCHED),
        OPERATOR_RELEASE_NAMESPACE=RELEASE,
        OPERATOR_DEDICATED_ENABLED="true",
        OPERATOR_DEDICATED_MAX_REPLICAS="4",
        OPERATOR_DEDICATED_TEMPLATES=str(write_templates(directory / "templates")),
    )
    process.start()
    yield process
    process.stop()


@pytest.fixture
async def world(control_plane: Access, operator_process: OperatorProcess, platform: Platform) -> AsyncIterator[World]:
    """The world, whole again whatever the test before did to it."""
    if not platform.apis[0].running:
        platform.apis[0].start(wait=False)
        platform.apis[0].wait_ready(120)
    if not operator_process.running:
        operator_process.start()
    async with Kube(control_plane.kubeconfig) as kube, aiohttp.ClientSession() as session:
        yield World(control_plane, kube, operator_process, platform, Imago(session, platform))
