"""Prometheus scrapes a real instance after real work, and runs every query of every dashboard."""

import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from devtools.instance import Instance
from hack import dashboards
from hack.dashboard_panels import DEAD
from imago.nats.embedded import free_port
from tests.support.apart import apart
from tests.support.images import encoded, picture
from tests.support.providers import OPENROUTER_KEY, VISION, fake_provider, says, throttles

# Prefixes of metrics, and conditions, whose queries may return nothing here, and the reason.
MAY_BE_EMPTY = {
    "kube_": "kube-state-metrics runs only in Kubernetes",
    "imago_operator_": "the operator runs only in Kubernetes",
    'error_code=~"cpu-limit|': "no image here needs more than it may use",
    "imago_ai_fallbacks_": "with a fallback provider, no stage would be parked for the first one",
}

VARIABLES = {"$namespace": ".*", "$client": ".*", "$__rate_interval": "30s"}

QUERIES = sorted(
    {
        target["expr"]
        for text in dashboards.files().values()
        for panel in json.loads(text)["panels"]
        for target in panel.get("targets", ())
    }
)


class Prometheus:
    """A Prometheus process that scrapes one address every second."""

    def __init__(self, folder: Path, target: str) -> None:
        cache = platformdirs.user_cache_path("imago") / "prometheus"
        program = shutil.which("prometheus") or shutil.which("prometheus", path=cache)
        if program is None:
            pytest.skip("Prometheus is not installed (`make setup` unpacks Debian's)")
        config = folder / "prometheus.yaml"
        job = {"job_name": "imago", "static_configs": [{"targets": [target]}]}
        config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
        address = f"127.0.0.1:{free_port()}"
        self._url, self._ready = f"http://{address}/api/v1/query", f"http://{address}/-/ready"
        self._log = folder / "prometheus.log"
        options = (
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
        )
        with self._log.open("w") as log:
            self._process = subprocess.Popen([program, *options], stdout=log, stderr=log)

    def query(self, text: str) -> list[dict[str, Any]]:
        """Return the result of an instant query; fail with the error of Prometheus if it does not parse."""
        address = f"{self._url}?{urllib.parse.urlencode({'query': text})}"
        try:
            with urllib.request.urlopen(address, timeout=10) as response:
                result: list[dict[str, Any]] = json.load(response)["data"]["result"]
                return result
        except urllib.error.HTTPError as error:
            pytest.fail(f"{text}\n{error.read().decode()}")

    def wait_for_scrape(self) -> None:
        """Wait until the target has been scraped."""
        deadline = time.monotonic() + 30
        while True:
            assert self._process.poll() is None, f"Prometheus exited:\n{self._log.read_text()}"
            assert time.monotonic() < deadline, f"nothing was scraped in 30 s:\n{self._log.read_text()}"
            # It answers queries with 503 until it is ready.
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(self._ready, timeout=10).close()
                if any(series["value"][1] == "1" for series in self.query("up")):
                    return
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the process."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes an instance while images succeed, fail and are parked."""
    folder = tmp_path_factory.mktemp("dashboards")
    with contextlib.ExitStack() as stack:
        ai = {"AI_PROVIDER": "openrouter", "AI_MODEL": "some/model", "OPENROUTER_API_KEY": OPENROUTER_KEY}
        # It returns one valid response, to the repair request, and then a rate limit of an hour.
        answers = says("not JSON, and without a price"), says(VISION, cost=0.001), throttles(3600)
        provider = stack.enter_context(apart(fake_provider(*answers)))
        ai["OPENROUTER_BASE_URL"] = f"{provider.url}/v1"
        instance = Instance(folder / "data", OBSERVE_INTERVAL="1", **ai)
        instance.start()
        stack.callback(instance.kill)
        stack.callback(instance.stop)
        server = Prometheus(folder, f"127.0.0.1:{instance.port}")
        stack.callback(server.stop)
        server.wait_for_scrape()
        whole = encoded(image=picture(640, 480))
        for name, data in (("good.jpg", encoded()), ("broken.png", encoded("png")[:60]), ("parked.jpg", whole)):
            path = folder / name
            path.write_bytes(data)
            wait = () if name == "parked.jpg" else ("--wait",)
            instance.imago("upload", path, *wait, check=False)
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{instance.port}/images/1", timeout=10).close()
        yield server


def _run(query: str) -> str:
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


def _may_be_empty(query: str) -> bool:
    if any(condition in query for condition in MAY_BE_EMPTY if "=" in condition):
        return True
    return all(metric.startswith(tuple(MAY_BE_EMPTY)) for metric in re.findall(r"(\w+)\{", query))


def test_every_query_parses_and_returns_data(prometheus: Prometheus) -> None:
    empty = {query for query in QUERIES if not _may_be_empty(query)}
    assert len(empty) > 30
    # The metrics collector, the other periodic tasks and the second scrape take a while.
    deadline = time.monotonic() + 30
    while empty and time.monotonic() < deadline:
        empty = {query for query in empty if not prometheus.query(_run(query))}
        time.sleep(0.5)
    assert not empty, "no data for:\n" + "\n".join(sorted(empty))


def test_queries_that_may_be_empty_parse(prometheus: Prometheus) -> None:
    optional = [query for query in QUERIES if _may_be_empty(query)]
    assert optional
    for query in optional:
        prometheus.query(_run(query))


def test_the_failed_image_appears_as_a_dead_letter(prometheus: Prometheus) -> None:
    (query,) = (target for target, _ in DEAD.queries)
    found = prometheus.query(_run(query))
    assert any(float(series["value"][1]) >= 1 for series in found), found
