"""The cluster tier: one real Kubernetes for the session.

There are two levels. `control_plane` is a real API server with its controllers, and requires only the programs that
`hack/cluster-binaries.sh` builds. `node` adds containerd and a kubelet, so that pods run; it requires root and separate
Linux namespaces, in which `make test-cluster` runs the whole session. A test requests the level it needs, and is
skipped with a reason if that is not available.

The tests also run on an existing cluster: `IMAGO_TEST_KUBECONFIG` names a kubeconfig whose current context is
`imago-test`, or one of kind (created by `make test-kind`).
"""

import contextlib
import os
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import aiohttp
import pytest

from devtools.kubernetes import namespaces
from devtools.kubernetes.access import CONTEXT, Access, KubectlError
from devtools.kubernetes.addons import install_keda
from devtools.kubernetes.binaries import Missing
from devtools.kubernetes.control_plane import ControlPlane
from devtools.kubernetes.control_plane import control_plane as open_control_plane
from devtools.kubernetes.images import part_images
from devtools.kubernetes.layers import write_archive
from devtools.kubernetes.node import Node
from devtools.kubernetes.whole import keda_directory, node_beside
from tests.faults.figures import Figures
from tests.faults.platform import Platform
from tests.support.operator import ACCOUNT, OPERATOR_KEY, Kube, OperatorProcess, install, write_templates
from tests.support.operator_world import RELEASE, WATCHED, ImagoServer, OperatorCluster

_BUILD = Path(__file__).parents[2] / "build"
_LOGS = _BUILD / "cluster-logs"
_RUNNING = pytest.StashKey[Access]()
_STATE = (
    "get pods --all-namespaces --output=wide",
    "get events --all-namespaces --sort-by=.lastTimestamp",
    "describe pods --all-namespaces",
    "logs --namespace=imago --selector=app.kubernetes.io/instance=imago --all-containers --prefix --tail=100",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test of the tier 15 minutes, because the first one includes the start of the cluster."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(900))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record the state of the cluster when a test fails, before its fixtures clean up."""
    report = yield
    plane = item.session.stash.get(_RUNNING, None)
    if report.failed and plane is not None:
        _LOGS.mkdir(parents=True, exist_ok=True)
        with (_LOGS / f"{item.name}-{report.when}.txt").open("w") as file:
            for command in _STATE:
                with contextlib.suppress(KubectlError, subprocess.TimeoutExpired):
                    file.write(f"$ kubectl {command}\n{plane.kubectl(*command.split(), timeout=20)}\n")
    return report


@pytest.fixture(scope="session")
def figures() -> Iterator[Figures]:
    """The measurements of this run."""
    gathered = Figures("cluster")
    yield gathered
    gathered.write(_BUILD)


@pytest.fixture(scope="session")
def own_control_plane(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[ControlPlane]:
    """The control plane of this run, whose processes tests may kill and start again."""
    if uses_existing_cluster(request.config):
        pytest.skip("tests do not touch the processes of an existing cluster")
    inside = namespaces.inside()
    shutil.rmtree(_LOGS, ignore_errors=True)
    directory = (namespaces.run_directory() if inside else tmp_path_factory.mktemp("kubernetes")) / "cluster"
    try:
        with open_control_plane(directory, node_address=namespaces.NODE_ADDRESS if inside else None) as plane:
            request.session.stash[_RUNNING] = plane
            yield plane
            del request.session.stash[_RUNNING]
    except Missing as missing:
        pytest.skip(str(missing))
    finally:
        _keep_logs(directory)


def uses_existing_cluster(config: pytest.Config) -> bool:
    """Return whether the tests run on an existing cluster: of a kubeconfig, or of kind."""
    return "IMAGO_TEST_KUBECONFIG" in os.environ or config.getoption("cluster_name") == CONTEXT


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest) -> Access:
    """A Kubernetes API with its controllers: of this run, of kind, or the one in `IMAGO_TEST_KUBECONFIG`."""
    if not uses_existing_cluster(request.config):
        plane: ControlPlane = request.getfixturevalue("own_control_plane")
        return plane
    path = os.environ.get("IMAGO_TEST_KUBECONFIG") or request.getfixturevalue("kind_cluster").kubeconfig_path
    access = Access(Path(path).absolute())
    access.check_context()
    return access


@pytest.fixture(scope="session")
def node(own_control_plane: ControlPlane) -> Iterator[Node]:
    """A node of the control plane, with DNS, that runs pods."""
    if not namespaces.inside():
        pytest.skip("a node needs separate namespaces: run `make test-cluster`, as root on Linux")
    try:
        with node_beside(own_control_plane) as beside:
            yield beside
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def pods(control_plane: Access, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Access:
    """A Kubernetes that runs pods and has the images of Imago's dependencies."""
    if not uses_existing_cluster(request.config):
        request.getfixturevalue("node")
    elif "IMAGO_TEST_KUBECONFIG" not in os.environ:
        archive = tmp_path_factory.mktemp("images") / "parts.tar"
        with archive.open("wb") as stream:
            write_archive(stream, part_images())
        kind = request.getfixturevalue("kind_cluster")
        subprocess.run([kind.kind_path, "load", "image-archive", archive, "--name", kind.name], check=True)
    return control_plane


@pytest.fixture(scope="session")
def keda(pods: Access, request: pytest.FixtureRequest) -> Access:
    """A Kubernetes that runs pods, with KEDA; an existing cluster must have KEDA."""
    if uses_existing_cluster(request.config):
        if pods.get("crd", "scaledobjects.keda.sh") is None:
            pytest.skip("the cluster has no KEDA")
    else:
        try:
            install_keda(pods, keda_directory(request.getfixturevalue("own_control_plane")))
        except Missing as missing:
            pytest.skip(str(missing))
    return pods


@pytest.fixture
def namespace(control_plane: Access) -> Iterator[str]:
    """A namespace for one test, deleted afterwards with its objects."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    control_plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    control_plane.delete("namespace", name, wait=False)


def _keep_logs(directory: Path) -> None:
    """Copy all logs to `build/cluster-logs`, because the directory of the run is deleted."""
    _LOGS.mkdir(parents=True, exist_ok=True)
    for log in directory.rglob("*.log"):
        if log.is_file():
            shutil.copy(log, _LOGS / "-".join(log.relative_to(directory).parts))


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """An installation of Imago for the session, without workers."""
    built = Platform(tmp_path_factory.mktemp("imago"), apis=1, OPERATOR_API_KEY=OPERATOR_KEY)
    built.apis[0].start(wait=False)
    built.apis[0].wait_ready(300)
    yield built
    built.close()


@pytest.fixture(scope="session")
def operator_process(
    control_plane: Access, platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """The operator's process, with its own ServiceAccount."""
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
async def world(
    control_plane: Access, operator_process: OperatorProcess, platform: Platform
) -> AsyncIterator[OperatorCluster]:
    """The operator on the cluster; processes that an earlier test stopped run again."""
    if not platform.apis[0].running:
        platform.apis[0].start(wait=False)
        platform.apis[0].wait_ready(120)
    if not operator_process.running:
        operator_process.start()
    async with Kube(control_plane.kubeconfig) as kube, aiohttp.ClientSession() as session:
        yield OperatorCluster(control_plane, kube, operator_process, platform, ImagoServer(session, platform))
