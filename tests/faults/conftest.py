"""Fixtures of the fault tier: one installation that tests break and repair, and the figures they record."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.faults.client import Tenant, new_session, new_tenant
from tests.faults.figures import Figures
from tests.faults.platform import Platform
from tests.faults.proxy import Mode

_BUILD = Path(__file__).parents[2] / "build"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the size of the run."""
    parser.addoption("--full", action="store_true", help="run at the full size of the targets instead of CI's")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat tests that use `again` 20 times at full size."""
    if "again" in metafunc.fixturenames and metafunc.config.getoption("--full"):
        metafunc.parametrize("again", range(20), indirect=True)


@pytest.fixture
def again(request: pytest.FixtureRequest) -> None:
    """Run a crash point once in CI and 20 times at full size (see `pytest_generate_tests`)."""


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Whether this is a run at the full size of the targets."""
    return bool(pytestconfig.getoption("--full"))


@pytest.fixture(scope="session")
def figures() -> Iterator[Figures]:
    """The figures of this run."""
    gathered = Figures("faults")
    yield gathered
    gathered.write(_BUILD)


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """An installation that lasts for the session."""
    built = Platform(tmp_path_factory.mktemp("installation"))
    try:
        built.start()
        yield built
    finally:
        built.close()


@pytest.fixture
def platform(installation: Platform) -> Platform:
    """The installation, restored to a running state after the previous test."""
    for proxy in (installation.postgres_proxy, installation.nats_proxy):
        proxy.set(Mode.PASS)
    # A test that failed while a server was down must not make the others fail.
    if not installation.postgres.running:
        installation.postgres.start()
    if not installation.nats.running:
        installation.nats.start()
    installation.start()
    return installation


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP session of an external client."""
    async with new_session() as opened:
        yield opened


@pytest.fixture
async def tenant(platform: Platform, session: aiohttp.ClientSession) -> Tenant:
    """A new client for each test."""
    return await new_tenant(platform, session)
