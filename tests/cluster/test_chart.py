"""The chart on a real node: images are processed by pods that KEDA starts, and no image is lost."""

import asyncio
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import yaml
from helm_python.config import Config
from helm_python.errors import HelmError
from PIL import Image, ImageDraw

from devtools.kubernetes import images
from devtools.kubernetes.access import Access, KubectlError
from devtools.kubernetes.namespaces import NODE_ADDRESS, run_directory
from devtools.kubernetes.node import POD_CIDR, Node
from devtools.postgres import PostgresServer, create_database
from devtools.s3 import S3Server, make_bucket
from devtools.waiting import until
from tests.cluster.installation import (
    CHART,
    COOLDOWN_SECONDS,
    MAX_OCR_PODS,
    NAMESPACE,
    NEXT_TAG,
    RELEASE,
    TAG,
    WORKERS,
    Installation,
    Timeline,
    follow_warnings,
    secret,
    secrets,
    values,
    watch_deployments,
)
from tests.faults.client import Answer, Tenant
from tests.faults.figures import Figures
from tests.support.images import encoded
from tests.support.providers import OPENROUTER_KEY, VISION, fake_provider, says, throttles

CRD = "imagoclients.imago.dev"
# A pod that the namespace's label `enforce: restricted` rejects, unlike all of Imago's pods.
UNRESTRICTED = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "unrestricted", "namespace": NAMESPACE},
    "spec": {"containers": [{"name": "any", "image": f"localhost/imago-api:{TAG}"}]},
}
OCR = f"{RELEASE}-worker-ocr"
# Waits from 30 s are spent in the outbox; this one is also long enough for scaling to zero.
THROTTLE_SECONDS = 60


def page(number: int) -> bytes:
    """Return an image with some text that differs from all others."""
    image = Image.new("RGB", (1000, 700), "white")
    draw = ImageDraw.Draw(image)
    for line in range(6):
        draw.text((40, 40 + 100 * line), f"Facture {number} ligne {line}", fill="black", font_size=44)
    return encoded("png", image)


def run_in_own_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in its own event loop."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


@pytest.fixture(scope="module")
def installation(keda: Access, request: pytest.FixtureRequest) -> Iterator[Installation]:
    """The release on a node with KEDA, with external PostgreSQL and S3."""
    node: Node = request.getfixturevalue("node")
    node.load([*images.imago_images(TAG), *images.imago_images(NEXT_TAG)])
    postgres = PostgresServer(run_directory() / "postgres", address=NODE_ADDRESS, network=POD_CIDR)
    s3 = S3Server(run_directory() / "s3", address=NODE_ADDRESS)
    try:
        postgres.start()
        s3.start()
        run_in_own_loop(create_database(postgres.url, "imago"))
        run_in_own_loop(make_bucket(s3.url))
        keda.apply(*secrets(address=NODE_ADDRESS, database="imago", database_port=postgres.port))
        with Config(kubeconfig_path=keda.kubeconfig, namespace=NAMESPACE) as helm:
            release = Installation(
                keda, helm, values(address=NODE_ADDRESS, database_port=postgres.port, s3_port=s3.port)
            )
            release.install()
            yield release
            helm.uninstall(RELEASE, ignore_not_found=True, wait="watcher", timeout=120)
    finally:
        s3.stop()
        postgres.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A session that opens a connection for each request, as many small clients do."""
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120)) as opened:
        yield opened


@pytest.fixture
async def tenant(installation: Installation, session: aiohttp.ClientSession, request: pytest.FixtureRequest) -> Tenant:
    """A new client for each test."""
    created = await installation.new_client(session, request.node.name)
    return Tenant(installation, session, created["uuid"], created["api_key"], created["id"])  # type: ignore[arg-type]


async def upload(tenant: Tenant, count: int, make: Callable[[int], bytes] = page, *, concurrency: int = 8) -> list[int]:
    """Upload images and return their ids; each must be accepted by the first request."""
    slots = asyncio.Semaphore(concurrency)

    async def one(number: int) -> int:
        async with slots:
            response = await tenant.upload_once(make(number))
            assert response.status == 201, (response.status, response.body)
            return int(response.body["id"])

    return await asyncio.gather(*(one(number) for number in range(count)))


async def all_done(tenant: Tenant, ids: list[int], *, timeout: float) -> None:
    """Wait until all stages of every image are done, and none is a dead letter."""
    for image in ids:
        document = await tenant.ended(image, timeout=timeout)
        stages = {name: stage["status"] for name, stage in document["stages"].items()}
        assert set(stages.values()) == {"done"}, stages


async def count_unfinished(tenant: Tenant, ids: list[int], *, timeout: float) -> int:
    """Wait until all images are done; return how many are not after the timeout."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        statuses = [(await tenant.status(image)).get("status") for image in ids]
        missing = len(statuses) - statuses.count("done")
        if not missing or loop.time() > deadline:
            return missing
        await asyncio.sleep(1)


def test_the_installation_is_ready_and_helm_test_succeeds(installation: Installation, figures: Figures) -> None:
    figures.note("helm install --wait, seconds", installation.installed_seconds)
    assert len(installation.running("api")) == 2
    assert len(installation.running("operator")) == 1
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        installation.access.apply(UNRESTRICTED)
    tested = installation.helm.test(RELEASE, timeout=300, logs=True)
    assert "done" in tested["logs"], tested["logs"]


async def test_workers_scale_from_zero_by_lag_and_back_to_zero(
    installation: Installation, tenant: Tenant, figures: Figures
) -> None:
    await asyncio.to_thread(installation.wait_idle)
    with watch_deployments(installation.access) as timeline:
        ids = await upload(tenant, 60)
        uploaded = _now(timeline)
        await all_done(tenant, ids, timeout=300)
        done = _now(timeline)
        await asyncio.to_thread(installation.wait_idle)
    described = timeline.describe()
    print(described)
    first, maximum = timeline.first(OCR, ready=1), timeline.first(OCR, ready=MAX_OCR_PODS)
    zero = timeline.scaled_to_zero(OCR)
    assert first is not None, described
    assert maximum is not None, described
    assert zero is not None, described
    figures.note("KEDA: 60 images uploaded, seconds", uploaded)
    figures.note("KEDA: first upload to the first ready OCR pod, seconds", first)
    figures.note(f"KEDA: first upload to {MAX_OCR_PODS} ready OCR pods, seconds", maximum)
    figures.note("KEDA: first upload to the last image done, seconds", done)
    figures.note(
        f"KEDA: last image done to no worker (cooldown {COOLDOWN_SECONDS} s; the chart's own is 300), seconds",
        zero - done,
    )
    figures.hold("KEDA: most OCR pods", timeline.highest(OCR), "==", MAX_OCR_PODS)


async def test_vision_scales_to_zero_while_its_provider_throttles_and_images_wait(
    installation: Installation, tenant: Tenant, figures: Figures
) -> None:
    access = installation.access
    access.apply(secret("ai", {"key": OPENROUTER_KEY}))
    async with fake_provider(throttles(THROTTLE_SECONDS), host=NODE_ADDRESS) as provider:
        peers = {"to": [{"ipBlock": {"cidr": f"{NODE_ADDRESS}/32"}}], "port": provider.server.port}
        ai = {"provider": "openrouter", "existingSecret": "ai", "openrouterApiKeyKey": "key", "model": "some/model"}
        await asyncio.to_thread(
            installation.upgrade, ai={**ai, "openrouterBaseUrl": f"{provider.url}/v1"}, networkPolicy={"ai": peers}
        )
        await asyncio.to_thread(installation.wait_idle)
        with watch_deployments(access) as timeline:
            ids = await upload(tenant, 40)

            async def throttled() -> bool:
                return bool(provider.received)

            await until(throttled, what="a request to the provider", timeout=180)
            requested = _now(timeline)
            await asyncio.to_thread(
                access.wait_for, lambda: not installation.pods("worker-vision"), what="no vision pod", timeout=180
            )
            gone = _now(timeline)
            waiting = [(await tenant.status(image))["stages"]["vision"]["status"] for image in ids]
        figures.note("throttled: first 429 to no vision pod, seconds", gone - requested)
        figures.note("throttled: calls to the provider for 40 images", len(provider.received))
        figures.hold("throttled: images that wait without a vision pod", waiting.count("retrying"), ">=", 36)
        provider.will(says(VISION))
        await all_done(tenant, ids, timeout=300)
        print(timeline.describe())


async def test_no_request_fails_during_an_upgrade_under_load(
    installation: Installation, tenant: Tenant, figures: Figures
) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    requests = 0
    failures: list[str] = []
    accepted: list[int] = []
    finished = asyncio.Event()

    async def request(method: str, expected: int, call: Coroutine[Any, Any, Answer]) -> Answer:
        nonlocal requests
        requested = loop.time()
        answer = await call
        requests += 1
        if answer.status != expected:
            when = f"at {requested - started:.1f} s, for {loop.time() - requested:.1f} s"
            failures.append(f"{method} {when}: {answer.status} {answer.body}")
        await asyncio.sleep(0.1)
        return answer

    async def use() -> None:
        while not finished.is_set():
            upload = tenant.upload_once(encoded("jpeg", comment=os.urandom(16)))
            answer = await request("POST", 201, upload)
            if answer.status == 201:
                accepted.append(answer.body["id"])
            for _ in range(3):
                await request("GET", 200, tenant.call("GET", "/images?limit=5"))

    with follow_warnings(installation.access, "api") as warnings:
        users = [asyncio.create_task(use()) for _ in range(4)]
        await asyncio.sleep(2)
        before = {pod["metadata"]["uid"] for pod in installation.pods("api")}
        try:
            await asyncio.to_thread(installation.upgrade, image={"tag": NEXT_TAG})
            await asyncio.sleep(3)
        finally:
            finished.set()
            await asyncio.gather(*users)
        if failures:
            print(*failures, *warnings(), sep="\n")
    after = {pod["metadata"]["uid"] for pod in installation.running("api")}
    assert not before & after, "the upgrade kept an old pod"
    figures.note("upgrade: seconds", loop.time() - started - 5)
    figures.note("upgrade: concurrent requests", requests)
    figures.hold("upgrade: requests that failed", len(failures), "==", 0)
    await all_done(tenant, accepted, timeout=300)


async def test_a_killed_worker_loses_no_image(installation: Installation, tenant: Tenant, figures: Figures) -> None:
    ids = await upload(tenant, 24)
    await asyncio.to_thread(
        installation.access.wait_for, lambda: installation.running("worker-ocr"), what="an OCR pod", timeout=120
    )
    # Kill a container's process, as the kernel's OOM killer does, then delete a pod without a grace period.
    worker = next(process for process in psutil.process_iter(["cmdline"]) if _is_worker(process, "ocr"))
    worker.send_signal(signal.SIGKILL)
    pod = installation.running("worker-ocr")[-1]["metadata"]["name"]
    await asyncio.to_thread(
        installation.access.kubectl, "delete", "pod", pod, f"--namespace={NAMESPACE}", "--grace-period=0", "--force"
    )
    figures.hold("killed worker: images lost of 24", await count_unfinished(tenant, ids, timeout=300), "==", 0)


async def test_a_drained_node_loses_no_image(installation: Installation, tenant: Tenant, figures: Figures) -> None:
    ids = await upload(tenant, 24)
    access = installation.access
    await asyncio.to_thread(access.wait_for, lambda: installation.running("worker-ocr"), what="an OCR pod", timeout=120)
    node = access.list("nodes")[0]["metadata"]["name"]
    # Without another node for replacements, the disruption budgets would prevent evicting the second pod of each kind.
    drain = ("drain", node, "--disable-eviction", "--delete-emptydir-data", "--force", "--timeout=180s")
    try:
        await asyncio.to_thread(
            access.kubectl, *drain, f"--pod-selector=app.kubernetes.io/instance={RELEASE}", timeout=200
        )
        assert not [pod for worker in WORKERS for pod in installation.running(f"worker-{worker}")]
    finally:
        await asyncio.to_thread(access.kubectl, "uncordon", node)
    # With one node, the API was unavailable too.
    await asyncio.to_thread(access.wait_for, lambda: installation.running("api"), what="an API pod", timeout=240)
    # NATS lost all messages with its pod's volume. The database still contains the open jobs.
    figures.hold("drained node: images lost of 24", await count_unfinished(tenant, ids, timeout=420), "==", 0)


async def test_the_key_of_an_imago_client_uploads_through_the_service(
    installation: Installation, session: aiohttp.ClientSession
) -> None:
    access = installation.access
    resource = {
        "apiVersion": "imago.dev/v1alpha1",
        "kind": "ImagoClient",
        "metadata": {"name": "atelier", "namespace": "photos"},
        "spec": {"displayName": "Atelier Photo", "plan": "premium"},
    }
    await asyncio.to_thread(access.apply, resource)
    wait = ("wait", "--for=condition=Ready", "imagoclient/atelier", "--namespace=photos", "--timeout=60s")
    await asyncio.to_thread(access.kubectl, *wait)
    key = installation.secret("atelier-imago", "api-key", "photos")
    uuid = installation.secret("atelier-imago", "client-id", "photos")
    assert installation.secret("atelier-imago", "url", "photos") == f"http://{RELEASE}-api.{NAMESPACE}.svc"
    client = Tenant(installation, session, uuid, key, 0)  # type: ignore[arg-type]
    await all_done(client, await upload(client, 1), timeout=240)


def test_a_rollback_of_the_chart_removes_no_field_of_the_crd(installation: Installation, tmp_path: Path) -> None:
    newer = tmp_path / "imago"
    shutil.copytree(CHART, newer)
    (newer / "Chart.yaml").write_text(
        re.sub(r"(?m)^version: .*", "version: 99.0.0", (newer / "Chart.yaml").read_text())
    )
    source = newer / "files" / "crds" / "imago.dev_imagoclients.yaml"
    crd = yaml.safe_load(source.read_text())
    _spec_fields(crd)["colour"] = {"type": "string"}
    source.write_text(yaml.safe_dump(crd))

    def live() -> dict[str, Any]:
        found = installation.access.get("crd", CRD)
        assert found is not None
        return found

    before = _spec_fields(live())
    installation.upgrade_to(newer)
    assert _spec_fields(live()).keys() - before.keys() == {"colour"}
    installation.rollback()
    assert _chart_of(installation) != "imago-99.0.0", "the release was not rolled back"
    assert "colour" in _spec_fields(live())
    # The same holds for an upgrade to the older chart.
    installation.upgrade_to(CHART)
    assert "colour" in _spec_fields(live())


def test_the_network_policies_are_accepted(installation: Installation) -> None:
    """The reference CNI plugins of this node do not enforce them."""
    policies = {
        policy["metadata"]["name"]: policy["spec"] for policy in installation.access.list("networkpolicies", NAMESPACE)
    }
    denial = policies[f"{RELEASE}-default-deny"]
    assert sorted(denial["policyTypes"]) == ["Egress", "Ingress"]
    assert not denial.get("ingress")
    assert not denial.get("egress")
    monitored = [
        rule
        for policy in policies.values()
        for rule in policy.get("ingress") or []
        if {"protocol": "TCP", "port": 8222} in rule["ports"]
    ]
    assert [peer for rule in monitored for peer in rule["from"]] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}
    ]


def test_uninstalling_is_rejected_while_clients_exist_and_keeps_crd_and_secrets(
    installation: Installation, figures: Figures
) -> None:
    access = installation.access
    assert access.get("imagoclient", "atelier", "photos") is not None, "this test needs the client of an earlier test"
    with pytest.raises(HelmError):
        installation.helm.uninstall(RELEASE, wait="watcher", timeout=120)
    assert len(installation.running("api")) == 2, "a rejected uninstall deleted something"
    access.kubectl("delete", "imagoclient", "atelier", "--namespace=photos", "--timeout=60s")
    installation.helm.uninstall(RELEASE, wait="watcher", timeout=180)
    access.wait_for(lambda: not access.list("pods", NAMESPACE), what="all pods to be gone", timeout=120)
    assert access.get("crd", CRD) is not None
    left = {secret["metadata"]["name"] for secret in access.list("secrets", NAMESPACE)}
    assert f"{RELEASE}-secrets" in left
    assert {"database", "s3"} <= left
    assert not access.list("scaledobjects,horizontalpodautoscalers,deployments,services", NAMESPACE)
    permissions = access.list(
        "clusterroles,clusterrolebindings,roles,rolebindings", selector=f"app.kubernetes.io/instance={RELEASE}"
    )
    assert [item["metadata"]["name"] for item in permissions] == []


def _spec_fields(crd: dict[str, Any]) -> dict[str, Any]:
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    fields: dict[str, Any] = schema["properties"]["spec"]["properties"]
    return fields


def _chart_of(installation: Installation) -> str:
    deployment = installation.access.get("deployment", f"{RELEASE}-api", NAMESPACE)
    assert deployment is not None
    return str(deployment["metadata"]["labels"]["helm.sh/chart"])


def _now(timeline: Timeline) -> float:
    return asyncio.get_running_loop().time() - timeline.started


def _is_worker(process: psutil.Process, kind: str) -> bool:
    command = process.info["cmdline"] or []
    return command[-2:] == ["worker", kind] and any(part.endswith("/imago") for part in command)
