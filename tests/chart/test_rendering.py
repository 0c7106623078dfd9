"""The objects that the chart renders for its scenarios."""

import json

from helm_python.chart import Chart, lint

from imago.core.jobs.stages import WORKER_STAGES, Stage
from imago.core.lanes.model import SHARED_LANES
from imago.core.outbox.subjects import work_stream
from imago.settings import Settings
from imago_operator.settings import OperatorSettings
from tests.support.manifests import Rendered, containers, environment, render, scenario


def test_helm_lint_reports_nothing() -> None:
    report = lint("charts/imago", dict(scenario("production")), strict=True, namespace="pictures")
    assert not report["errors"]
    assert not [message for message in report["messages"] if message["severity"] >= 2]


def test_object_names_are_unique(rendered: Rendered) -> None:
    names = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in rendered.objects]
    assert len(names) == len(set(names))


def test_keda_reads_exactly_the_consumers_that_imago_creates(chart: Chart) -> None:
    for name, scaled in render(chart, scenario("quickstart")).of("ScaledObject").items():
        consumers = {(t["metadata"]["stream"], t["metadata"]["consumer"]) for t in scaled["spec"]["triggers"]}
        stages = WORKER_STAGES[name.removeprefix("imago-worker-")]
        assert consumers == {(work_stream(lane), str(stage)) for lane in SHARED_LANES for stage in stages}
        assert len(scaled["spec"]["triggers"]) == len(consumers)


def test_deployments_scaled_by_keda_have_no_replicas(rendered: Rendered) -> None:
    for scaled in rendered.of("ScaledObject").values():
        assert "replicas" not in rendered.of("Deployment")[scaled["spec"]["scaleTargetRef"]["name"]]["spec"]


# Variables of PostgreSQL and of the pods' scripts.
OTHERS = frozenset(("PROGRAMS", "PGDATA", "SUPERUSER_PASSWORD", "OWNER_PASSWORD", "RUNTIME_PASSWORD"))
OTHERS |= {"CRDS", "INSTALLATION", "NAMESPACES", "IMAGO_URL", "TIMEOUT", "HTTPS_PROXY"}


def test_every_variable_is_known_to_its_program_and_unique(rendered: Rendered) -> None:
    known = {name.upper() for name in Settings.model_fields}
    known |= {f"OPERATOR_{name}".upper() for name in OperatorSettings.model_fields}
    for name, pod in rendered.pods():
        for container in containers(pod):
            names = [entry["name"] for entry in container.get("env", ())]
            assert len(names) == len(set(names)), name
            if container["name"] != "nats":
                assert set(names) - OTHERS <= known, name


def test_grace_period_and_scale_down_window_are_longer_than_the_longest_stage(rendered: Rendered) -> None:
    for name, deployment in rendered.of("Deployment").items():
        spec = deployment["spec"]["template"]["spec"]
        variables = environment(spec["containers"][-1])
        timeouts = {key: float(value) for key, value in variables.items() if key.endswith("_TIMEOUT")}
        stages = [timeouts[key] for key in timeouts if key.partition("_")[0].lower() in list(Stage)]
        if variables.get("OCR_FALLBACK") == "ai":
            stages.append(timeouts["OCR_TIMEOUT"] + 2 * timeouts["AI_TIMEOUT"])
        for seconds in stages:
            assert spec["terminationGracePeriodSeconds"] > seconds, name
            if name in rendered.of("ScaledObject"):
                behavior = rendered.of("ScaledObject")[name]["spec"]["advanced"]["horizontalPodAutoscalerConfig"]
                assert behavior["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= seconds, name


def test_a_pod_has_only_the_secrets_of_its_component(chart: Chart) -> None:
    production = render(chart, scenario("production"))
    for name, pod in production.pods():
        variables = {key for container in containers(pod) for key in environment(container)}
        if "-api" not in name:
            assert not variables & {"ADMIN_API_KEY", "API_KEY_PEPPER", "JWT_SECRET_KEY"} or "-test-" in name, name
        assert "GEMINI_API_KEY" not in variables or name.endswith(("-api", "-vision", "-vision-$(NAME)")), name
        owner = {
            container["name"]
            for container in containers(pod)
            if isinstance(environment(container).get("DATABASE_URL"), dict)
            and environment(container)["DATABASE_URL"]["secretKeyRef"]["name"] == "imago-database-owner"
        }
        assert owner == ({"migrate"} if name.startswith("Job/imago-migrate-") else set()), name


def test_the_migration_is_a_job_with_a_name_for_each_version_and_not_a_hook(chart: Chart) -> None:
    def job(**image: str) -> str:
        values = {**scenario("production"), "image": image}
        (name,) = (name for name in render(chart, values).of("Job") if name.startswith("imago-migrate-"))
        return name

    assert job(tag="0.1.0") == job(tag="0.1.0") != job(tag="0.2.0")
    made = render(chart, scenario("production")).of("Job")
    (migration,) = (item for name, item in made.items() if name.startswith("imago-migrate-"))
    assert "annotations" not in migration["metadata"]


def test_crds_are_kept_and_a_choice(chart: Chart) -> None:
    crds = render(chart, scenario("production")).of("CustomResourceDefinition")
    assert crds.keys() == {"imagoclients.imago.dev", "imagoreprocesses.imago.dev"}
    assert all(crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for crd in crds.values())
    assert not render(chart, scenario("own-parts")).of("CustomResourceDefinition")


def test_a_hook_applies_the_crds_that_a_rollback_must_not_revert(chart: Chart) -> None:
    by_hook = render(chart, {**scenario("production"), "crds": {"by": "hook"}})
    assert not by_hook.of("CustomResourceDefinition")
    hooks = [item for item in by_hook.objects if item["metadata"]["name"].endswith("imago-crds")]
    assert {item["kind"] for item in hooks} == {
        "ServiceAccount",
        "ConfigMap",
        "ClusterRole",
        "ClusterRoleBinding",
        "Job",
    }
    for item in hooks:
        annotations = item["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade", item["kind"]
        assert (int(annotations.get("helm.sh/hook-weight", 0)) < 0) == (item["kind"] != "Job")
    crds = render(chart, scenario("production")).of("CustomResourceDefinition")
    applied = by_hook.of("ConfigMap")["imago-crds"]["data"]
    assert {name.removesuffix(".json"): json.loads(text) for name, text in applied.items()} == crds
    (rule,) = by_hook.of("ClusterRole")["pictures-imago-crds"]["rules"]
    assert (rule["resourceNames"], rule["verbs"]) == (list(crds), ["get", "create", "patch"])


def test_an_uninstall_is_guarded_unless_forced(chart: Chart) -> None:
    guard = render(chart, scenario("production")).of("Job")["imago-uninstall-guard"]
    assert guard["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete"
    forced = {**scenario("production"), "operator": {"forceUninstall": True}}
    assert "imago-uninstall-guard" not in render(chart, forced).of("Job")


def test_stages_without_a_worker_are_skipped(chart: Chart) -> None:
    minimal = render(chart, scenario("minimal"))
    api = minimal.of("Deployment")["imago-api"]["spec"]["template"]
    assert environment(containers(api)[-1])["DISABLED_STAGES"] == "ocr,vision"
    assert minimal.of("Deployment").keys() == {"imago-api", "imago-worker-exif"}


def test_with_per_lane_each_shared_lane_has_pods_of_its_own(chart: Chart) -> None:
    rendered = render(chart, {**scenario("quickstart"), "workers": {"perLane": True}})
    deployments, scaled = rendered.of("Deployment"), rendered.of("ScaledObject")
    selectors = []
    shared = render(chart, scenario("quickstart")).of("ScaledObject")
    enabled = {name.removeprefix("imago-worker-") for name in shared}
    for kind, stages in ((kind, WORKER_STAGES[kind]) for kind in sorted(enabled)):
        for lane in SHARED_LANES:
            name = f"imago-worker-{kind}-{lane}"
            pod = deployments[name]["spec"]["template"]["spec"]
            assert environment(pod["containers"][-1])["WORKER_LANES"] == lane
            selectors.append(deployments[name]["spec"]["selector"]["matchLabels"])
            triggers = {(t["metadata"]["stream"], t["metadata"]["consumer"]) for t in scaled[name]["spec"]["triggers"]}
            assert triggers == {(work_stream(lane), str(stage)) for stage in stages}
        assert f"imago-worker-{kind}" not in deployments
        budgets = [name for name in rendered.of("PodDisruptionBudget") if name.startswith(f"imago-worker-{kind}")]
        assert len(budgets) <= 1, "a pod with two budgets can't be evicted"
    assert len({json.dumps(each, sort_keys=True) for each in selectors}) == len(selectors)
