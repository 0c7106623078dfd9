"""The chart's hook for CRDs on a real API server, with only the permissions that the chart grants."""

import base64
import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from helm_python.chart import Chart

from devtools.kubernetes.access import Access
from tests.cluster.installation import CHART
from tests.support.manifests import merged, render, scenario

CRD = "imagoclients.imago.dev"
VERSION = "imago.dev/chart-version"


class CrdHook:
    """The script of the Job, run as its ServiceAccount."""

    def __init__(self, access: Access, namespace: str, folder: Path) -> None:
        with Chart.load(CHART) as chart:
            values = merged(scenario("production"), {"crds": {"by": "hook"}})
            rendered = render(chart, values, name=namespace, namespace=namespace)
        self._access = access
        objects = [item for item in rendered.objects if item["metadata"]["name"].endswith("imago-crds")]
        access.apply(*(item for item in objects if item["kind"] != "Job"))
        (job,) = (item for item in objects if item["kind"] == "Job")
        pod = job["spec"]["template"]["spec"]
        self._command = [sys.executable, *pod["containers"][0]["command"][1:], *pod["containers"][0]["args"]]
        self._cluster_objects = [item for item in objects if item["kind"].startswith("Cluster")]
        crds = map(json.loads, rendered.of("ConfigMap")[job["metadata"]["name"]]["data"].values())
        (self._crd,) = (crd for crd in crds if crd["metadata"]["name"] == CRD)
        self._crds, self._account = folder / "crds", folder / "account"
        self._crds.mkdir(parents=True)
        self._account.mkdir()
        config = yaml.safe_load(access.kubectl("config", "view", "--raw", "--minify", "--flatten"))
        cluster = config["clusters"][0]["cluster"]
        (self._account / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
        (self._account / "token").write_text(access.token(pod["serviceAccountName"], namespace))
        self._server = urlsplit(cluster["server"])
        self._forget_version()

    def run(self, version: str, *fields: str, name: str = CRD) -> str:
        """Apply the CRD of a chart of this version, with these additional spec fields; return the output."""
        crd = copy.deepcopy(self._crd)
        crd["metadata"]["annotations"][VERSION] = version
        crd["metadata"]["name"] = name
        spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        spec["properties"] |= {field: {"type": "string"} for field in fields}
        (self._crds / f"{CRD}.json").write_text(json.dumps(crd))
        environment = {
            "CRDS": str(self._crds),
            "SERVICE_ACCOUNT": str(self._account),
            "KUBERNETES_SERVICE_HOST": str(self._server.hostname),
            "KUBERNETES_SERVICE_PORT": str(self._server.port),
        }
        done = subprocess.run(self._command, env={**os.environ, **environment}, capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else f"failed: {done.stderr}"

    def live(self) -> tuple[str, set[str]]:
        """Return the chart version of the CRD on the cluster, and the fields of its spec."""
        crd: dict[str, Any] | None = self._access.get("crd", CRD)
        assert crd is not None
        spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        return crd["metadata"]["annotations"][VERSION], set(spec["properties"])

    def close(self) -> None:
        """Restore the CRD of this checkout and delete the cluster-wide permissions."""
        self.run("999.0.0")
        self._forget_version()
        for item in self._cluster_objects:
            self._access.delete(item["kind"], item["metadata"]["name"])

    def _forget_version(self) -> None:
        # The next chart may apply its CRD, of any version.
        if self._access.get("crd", CRD) is not None:
            self._access.kubectl("annotate", "crd", CRD, f"{VERSION}-")


@pytest.fixture
def hook(control_plane: Access, namespace: str, tmp_path: Path) -> Iterator[CrdHook]:
    created = CrdHook(control_plane, namespace, tmp_path)
    yield created
    created.close()


def test_a_newer_chart_adds_its_fields_and_an_older_one_removes_none(hook: CrdHook) -> None:
    hook.run("1.9.0")
    own = hook.live()[1]
    assert "applied from chart 1.10.0" in hook.run("1.10.0", "colour")
    for older in ("1.9.0", "1.10.0-rc.2", "0.99.99"):
        assert "left unchanged" in hook.run(older)
        assert hook.live() == ("1.10.0", {*own, "colour"})
    for newer in ("1.10.0", "1.10.1-rc.9", "1.10.1-rc.10", "1.10.1+build", "2.0.0"):
        assert f"applied from chart {newer}" in hook.run(newer, "colour")


def test_a_crd_applied_by_hand_is_taken_over(control_plane: Access, hook: CrdHook) -> None:
    control_plane.apply(manifest=Path("k8s/crds") / "imago.dev_imagoclients.yaml")
    assert "applied from chart 0.1.0" in hook.run("0.1.0", "colour")
    assert "colour" in hook.live()[1]


def test_the_hook_may_not_apply_another_crd(hook: CrdHook) -> None:
    output = hook.run("1.0.0", name="others.imago.dev")
    assert output.startswith("failed: ")
    assert "403" in output
