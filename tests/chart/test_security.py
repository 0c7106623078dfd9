"""Every pod of every scenario meets Pod Security `restricted` and the rules of kube-linter and Polaris."""

import base64
import re

import pytest

from tests.support.manifests import Rendered, containers, environment


def test_every_pod_is_restricted(rendered: Rendered) -> None:
    for name, pod in rendered.pods():
        spec = pod["spec"]
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        kinds = {key for volume in spec.get("volumes", ()) for key in volume if key != "name"}
        assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}, name
        for container in containers(pod):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert not {"privileged", "procMount"} & security.keys(), name
            assert not any("hostPort" in port for port in container.get("ports", ())), name


def test_every_container_has_requests_and_a_memory_limit(rendered: Rendered) -> None:
    for name, pod in rendered.pods():
        for container in containers(pod):
            resources = container["resources"]
            assert resources["requests"].keys() >= {"cpu", "memory"}, name
            assert "memory" in resources["limits"], name
            # A CPU limit would throttle heartbeats, and the process would lose its claims.
            assert "cpu" not in resources["limits"], name


def megabytes(quantity: str) -> int:
    number, unit = quantity[:-2], quantity[-2:]
    return int(number) * {"Mi": 1, "Gi": 1024}[unit]


def test_a_malicious_file_ends_its_child_process_and_not_the_pod(rendered: Rendered) -> None:
    for name, pod in rendered.pods():
        main = containers(pod)[-1]
        variables = environment(main)
        if "CHILD_MEMORY_MB" in variables:
            # The API has two child processes, which read web pages.
            children = int(variables.get("WORKER_PROCESSES", 2)) * int(variables["CHILD_MEMORY_MB"])
            assert children + 512 <= megabytes(main["resources"]["limits"]["memory"]), name


def test_every_image_has_a_tag_other_than_latest(rendered: Rendered) -> None:
    for name, pod in rendered.pods():
        for container in containers(pod):
            assert re.search(r":(?!latest)[\w.-]+(@sha256:[0-9a-f]{64})?$", container["image"]), name


def test_only_pods_that_call_kubernetes_mount_a_token(rendered: Rendered) -> None:
    with_token = {name for name, pod in rendered.pods() if pod["spec"]["automountServiceAccountToken"]}
    assert {name.rpartition("/")[2].partition("-")[2] for name in with_token} <= {"operator", "uninstall-guard", "crds"}
    for account in rendered.of("ServiceAccount").values():
        assert account["automountServiceAccountToken"] is False


def test_pods_get_no_variables_of_services(rendered: Rendered) -> None:
    assert all(pod["spec"]["enableServiceLinks"] is False for _, pod in rendered.pods())


def test_every_writable_directory_has_a_size_limit(rendered: Rendered) -> None:
    for name, pod in rendered.pods():
        for volume in pod["spec"].get("volumes", ()):
            if "emptyDir" in volume:
                assert "sizeLimit" in volume["emptyDir"], name


def test_deployments_have_probes_and_a_disruption_budget(rendered: Rendered) -> None:
    budgets = [item["spec"] for item in rendered.of("PodDisruptionBudget").values()]
    assert all("maxUnavailable" in budget for budget in budgets)
    for name, deployment in rendered.of("Deployment").items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items(), name
        main = deployment["spec"]["template"]["spec"]["containers"][0]
        assert {"startupProbe", "livenessProbe"} <= main.keys(), name
        if "operator" not in name:
            assert any(b["selector"]["matchLabels"].items() <= labels.items() for b in budgets), name


SECRET = re.compile(r"KEY|SECRET|PASSWORD|TOKEN|PEPPER|DATABASE_URL")
PATHS = frozenset(("NATS_TLS_KEY",))


def test_no_variable_contains_a_secret(rendered: Rendered) -> None:
    for name, pod in rendered.pods():
        for container in containers(pod):
            for variable, value in environment(container).items():
                if SECRET.search(variable) and variable not in PATHS:
                    assert isinstance(value, dict), f"{variable} of {name}"
                    assert value["secretKeyRef"]["name"], f"{variable} of {name}"


def test_secrets_are_rendered_only_for_evaluation(rendered: Rendered) -> None:
    values = rendered.values
    evaluation = values["secrets"]["generate"] or values["nats"]["bundled"]["enabled"]
    assert bool(rendered.of("Secret")) == evaluation
    for name, secret in rendered.of("Secret").items():
        for key, value in secret["data"].items():
            text = base64.b64decode(value).decode()
            # A random value, so that no two installations share a secret.
            assert re.search(r"[A-Za-z0-9]{31,}", text), f"{key} of {name}"


@pytest.mark.parametrize("kind", ["ClusterRole", "Role"])
def test_no_role_has_wildcards(rendered: Rendered, kind: str) -> None:
    for name, role in rendered.of(kind).items():
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]], name
