"""Files for local tools are valid: compose, kind, skaffold and the Kustomize overlay."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python.chart import Chart
from jsonschema import Draft202012Validator

from hack.schemas import SKAFFOLD_VERSION
from imago.settings import Settings
from tests.support.manifests import containers, environment, merged, render, scenario


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load(Path("hack/compose.yaml").read_text())


def faults(file: str, document: Any) -> list[str]:
    validator = Draft202012Validator(json.loads((Path("tests/chart/schemas") / file).read_text()))
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(document)]


def test_the_compose_file_is_valid(compose: Any) -> None:
    assert faults("compose.json", compose) == []
    assert faults("compose.json", {"services": {"a": {"imagee": "b"}}}), "the schema rejects mistakes"


def test_the_skaffold_file_is_valid() -> None:
    config = yaml.safe_load(Path("skaffold.yaml").read_text())
    assert config["apiVersion"] == f"skaffold/{SKAFFOLD_VERSION}"
    assert faults("skaffold.json", config) == []
    assert faults("skaffold.json", {**config, "build": {"artefacts": []}}), "the schema rejects mistakes"


def test_the_compose_file_contains_no_secrets_and_requires_those_that_its_script_generates(compose: Any) -> None:
    text = Path("hack/compose.yaml").read_text()
    required = set(re.findall(r"(?<!\$)\$\{(\w+):\?", text))
    script = Path("hack/compose.sh").read_text().replace("\\\n", "")
    generated = re.search(r"for name in ([A-Z0-9_ ]+);", script)
    assert generated is not None
    assert required == set(generated[1].split())
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            assert not re.search("PASSWORD|SECRET|API_KEY|PEPPER", name) or value.startswith("${"), name


def test_imagos_services_have_known_settings_and_read_only_file_systems(compose: Any) -> None:
    known = {name.upper() for name in Settings.model_fields}
    ours = {name: service for name, service in compose["services"].items() if "/imago-" in service["image"]}
    assert ours.keys() == {"api", "migrate", "topology", "worker-exif", "worker-ocr", "worker-vision"}
    for name, service in ours.items():
        assert service["environment"].keys() <= known, name
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
    for service in compose["services"].values():
        assert not service["image"].endswith(":latest")
        # No port is open to the machine's network.
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_the_settings_in_the_compose_file_are_valid(compose: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in compose["services"]["api"]["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:\?[^}]*\}", "secret" * 6, value))
    settings = Settings()
    assert (settings.storage_backend, settings.s3_bucket) == ("s3", "imago")


def test_skaffold_builds_every_target_and_sets_existing_values(chart: Chart) -> None:
    config = yaml.safe_load(Path("skaffold.yaml").read_text())
    built = {artifact["image"]: artifact["docker"]["target"] for artifact in config["build"]["artifacts"]}
    targets = set(re.findall(r" AS (api|operator|worker-\w+)$", Path("Dockerfile").read_text(), re.MULTILINE))
    assert built == {f"localhost/imago-{target}": target for target in targets}
    (release,) = config["deploy"]["helm"]["releases"]
    assert all(Path(path).exists() for path in release["valuesFiles"])
    values: Any = chart.values
    for path in {**release["setValues"], **release["setValueTemplates"]}:
        node = values
        for key in path.split("."):
            assert key in node, path
            node = node[key]
    for name, template in release["setValueTemplates"].items():
        image = re.search(r"IMAGE_\w+?_(localhost_imago_\w+)}}", template)
        assert image is not None, name
        assert image[1] in {re.sub(r"\W", "_", name) for name in built}


def test_the_chart_listens_on_the_port_that_kind_maps(chart: Chart) -> None:
    (node,) = yaml.safe_load(Path("k8s/kind.yaml").read_text())["nodes"]
    (mapping,) = node["extraPortMappings"]
    assert mapping["listenAddress"] == "127.0.0.1"
    values = merged(scenario("quickstart"), yaml.safe_load(Path("k8s/kind-values.yaml").read_text()))
    rendered = render(chart, values)
    (port,) = rendered.of("Service")["imago-api"]["spec"]["ports"]
    assert port["nodePort"] == mapping["containerPort"]
    api = environment(containers(rendered.of("Deployment")["imago-api"]["spec"]["template"])[-1])
    assert api["PUBLIC_URL"] == f"http://localhost:{mapping['hostPort']}"


HELM = """#!{python}
import sys, yaml
from pathlib import Path
from helm_python.chart import Chart
if sys.argv[1] == "version":
    print("v3.17.0")
else:
    _, _, name, chart, _, namespace, _, values = sys.argv
    with Chart.load(chart) as loaded:
        texts = loaded.render(yaml.safe_load(Path(values).read_text()), name=name, namespace=namespace)
    print("\\n---\\n".join(text for path, text in texts.items() if not path.endswith("NOTES.txt")))
"""


def test_the_overlay_patches_the_chart(tmp_path: Path, chart: Chart) -> None:
    helm = tmp_path / "helm"
    helm.write_text(HELM.format(python=sys.executable))
    helm.chmod(0o755)
    kubectl = Path(sys.executable).with_name("kubectl")
    command = [kubectl, "kustomize", "--enable-helm", "--helm-command", helm]
    built = subprocess.run(
        [*command, "--load-restrictor", "LoadRestrictionsNone", "k8s/overlays/example"],
        check=True,
        capture_output=True,
        text=True,
    )
    objects = [item for item in yaml.safe_load_all(built.stdout) if item]
    plain = render(chart, scenario("production"), namespace="imago").objects
    assert len(objects) == len(plain) + 1
    (vision,) = (
        item for item in objects if (item["kind"], item["metadata"]["name"]) == ("Deployment", "imago-worker-vision")
    )
    assert vision["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 120
