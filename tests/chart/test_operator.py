"""The operator in the chart: its Roles, its environment, and its templates of dedicated workers."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from helm_python.chart import Chart

from imago.core.jobs.stages import WORKER_STAGES
from imago_operator.reconciler.workers import build_workers, read_templates
from imago_operator.resource import ResourceRef
from imago_operator.settings import OperatorSettings
from tests.support import operator as cluster_operator
from tests.support.manifests import Manifest, Rendered, containers, environment, render, scenario

CLIENT = UUID("0f0e0d0c-0b0a-4908-8706-050403020100")


def granted(objects: list[Manifest]) -> list[tuple[str, list[Any]]]:
    """Return the namespace ("" for the cluster) and the sorted rules of every role."""
    return sorted(
        (
            item["metadata"].get("namespace", ""),
            sorted(
                [sorted((key, sorted(values)) for key, values in rule.items()) for rule in item["rules"]],
                key=str,
            ),
        )
        for item in objects
        if item["kind"].endswith("Role")
    )


@pytest.fixture(scope="module")
def production(chart: Chart) -> Rendered:
    return render(chart, scenario("production"))


def operator_objects(rendered: Rendered) -> list[Manifest]:
    return [
        item
        for item in rendered.objects
        if item["metadata"]["labels"].get("app.kubernetes.io/component") == "operator"
        and not item["metadata"]["name"].endswith("-client-editor")
    ]


def test_the_roles_equal_those_of_the_cluster_tests(production: Rendered) -> None:
    expected = cluster_operator.rules("pictures", ["photos", "archive"])
    assert granted(operator_objects(production)) == granted(expected)


def test_every_role_is_bound_only_to_the_operator(production: Rendered) -> None:
    own = operator_objects(production)
    roles = {(i["kind"], i["metadata"].get("namespace"), i["metadata"]["name"]) for i in own if "rules" in i}
    bindings = [item for item in own if "roleRef" in item]
    bound = {(item["roleRef"]["kind"], item["metadata"].get("namespace"), item["roleRef"]["name"]) for item in bindings}
    assert roles == bound
    account = {"kind": "ServiceAccount", "name": "imago-operator", "namespace": "pictures"}
    assert all(item["subjects"] == [account] for item in bindings)


def test_watching_all_namespaces_needs_a_cluster_role_and_is_optional(chart: Chart) -> None:
    wide = render(chart, scenario("own-parts"), name="pictures")
    rules = wide.of("ClusterRole")["pictures-pictures-operator-clients"]["rules"]
    assert [rule["verbs"] for rule in rules if rule["resources"] == ["secrets"]] == [
        ["get", "create", "patch", "delete"]
    ]
    narrow = render(chart, scenario("quickstart"))
    assert {role["metadata"]["namespace"] for role in narrow.of("Role").values()} == {"pictures"}
    cluster_rules = [rule for role in narrow.of("ClusterRole").values() for rule in role["rules"]]
    assert not [rule for rule in cluster_rules if "secrets" in rule["resources"]]


def test_with_a_cluster_id_the_operator_may_not_read_kube_system(chart: Chart) -> None:
    values = {**scenario("quickstart"), "operator": {"clusterId": "paris-1"}}
    (role,) = (r for n, r in render(chart, values).of("ClusterRole").items() if n.endswith("-namespaces"))
    assert role["rules"][0]["resourceNames"] == ["pictures"]


def test_the_environment_contains_the_operators_settings(production: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = production.of("Deployment")["imago-operator"]
    variables = environment(containers(deployment["spec"]["template"])[0])
    for name, value in variables.items():
        monkeypatch.setenv(name, value if isinstance(value, str) else "from a Secret")
    settings = OperatorSettings()  # type: ignore[call-arg]
    assert settings.watch_namespaces == ("photos", "archive")
    assert (settings.api_url, settings.url) == ("http://imago-api.pictures.svc", "https://images.example.com")
    assert (settings.dedicated_enabled, settings.dedicated_max_replicas) == (True, 4)
    assert settings.metrics_port == 9090
    known = {f"OPERATOR_{name}".upper() for name in OperatorSettings.model_fields}
    assert {name for name in variables if name.startswith("OPERATOR_")} <= known
    for secret in ("ADMIN_API_KEY", "DATABASE_URL", "API_KEY_PEPPER", "JWT_SECRET_KEY"):
        assert secret not in variables


def workers(rendered: Rendered, folder: Path) -> list[Manifest]:
    """Return the dedicated workers that the operator builds from the chart's templates."""
    (templates,) = (m for name, m in rendered.of("ConfigMap").items() if name.endswith("-dedicated-workers"))
    for name, text in templates["data"].items():
        (folder / name).write_text(text)
    ref = ResourceRef("photos", "atelier", str(CLIENT))
    built = build_workers(read_templates(folder), ref, client=CLIENT, max_replicas=3, namespace="pictures")
    return [worker.body for worker in built]


def test_the_operator_builds_workers_from_the_templates(rendered: Rendered, tmp_path: Path) -> None:
    operator = rendered.values["operator"]
    if not (operator["enabled"] and operator["dedicated"]["enabled"]):
        assert rendered.dedicated() == []
        return
    built = workers(rendered, tmp_path)
    assert "$(" not in str(built)
    kinds = [kind for kind in WORKER_STAGES if rendered.values["workers"][kind]["enabled"]]
    deployments = {item["metadata"]["name"]: item for item in built if item["kind"] == "Deployment"}
    assert len(deployments) == len(kinds)
    for item in built:
        assert len(item["metadata"]["name"]) <= 63
        if item["kind"] == "ScaledObject":
            target = deployments[item["spec"]["scaleTargetRef"]["name"]]
            assert "replicas" not in target["spec"]
            assert item["spec"]["maxReplicaCount"] == 3
            kind = target["metadata"]["labels"]["app.kubernetes.io/component"].removeprefix("worker-")
            consumers = {(t["metadata"]["stream"], t["metadata"]["consumer"]) for t in item["spec"]["triggers"]}
            assert consumers == {(f"IMAGO_WORK_{CLIENT.hex}", str(stage)) for stage in WORKER_STAGES[kind]}
            variables = environment(target["spec"]["template"]["spec"]["containers"][0])
            assert variables["WORKER_LANES"] == CLIENT.hex


def test_shared_and_dedicated_workers_never_select_each_others_pods(production: Rendered, tmp_path: Path) -> None:
    own = [item for item in workers(production, tmp_path) if item["kind"] == "Deployment"]
    shared = [item for name, item in production.of("Deployment").items() if "-worker-" in name]
    for mine, other in [(a, b) for a in own for b in shared] + [(b, a) for a in own for b in shared]:
        labels = other["spec"]["template"]["metadata"]["labels"]
        assert not mine["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_a_change_of_the_templates_restarts_the_operator(chart: Chart, production: Rendered) -> None:
    def checksum(rendered: Rendered) -> str:
        pod = rendered.of("Deployment")["imago-operator"]["spec"]["template"]
        return str(pod["metadata"]["annotations"]["checksum/dedicated-workers"])

    changed = render(chart, {**scenario("production"), "ai": {"provider": "offline"}})
    assert checksum(production) == checksum(render(chart, scenario("production")))
    assert checksum(changed) != checksum(production)
