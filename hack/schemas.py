"""Extract the schemas that tests/chart checks manifests against from Go modules, pruned to the kinds in use.

`make schemas` runs this; it needs Go, and the module proxy or a cache. The schemas are committed in
tests/chart/schemas, because the tests must run without either.
"""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

TARGET = Path(__file__).resolve().parent.parent / "tests/chart/schemas"

KUBERNETES = ("k8s.io/kubernetes", "v1.36.3")
KEDA = ("github.com/kedacore/keda/v2", "v2.20.1")
PROMETHEUS_OPERATOR = ("github.com/prometheus-operator/prometheus-operator", "v0.85.0")
COMPOSE = ("github.com/compose-spec/compose-go/v2", "v2.16.2")
SKAFFOLD = ("github.com/GoogleContainerTools/skaffold/v2", "v2.13.2")
# The apiVersion of skaffold.yaml.
SKAFFOLD_VERSION = "v4beta11"

# The kinds that the chart may render. The tests fail for other kinds, which must be added here.
KINDS = frozenset(
    (
        "apps/v1/Deployment",
        "apps/v1/StatefulSet",
        "autoscaling/v2/HorizontalPodAutoscaler",
        "batch/v1/Job",
        "networking.k8s.io/v1/Ingress",
        "networking.k8s.io/v1/NetworkPolicy",
        "policy/v1/PodDisruptionBudget",
        "rbac.authorization.k8s.io/v1/ClusterRole",
        "rbac.authorization.k8s.io/v1/ClusterRoleBinding",
        "rbac.authorization.k8s.io/v1/Role",
        "rbac.authorization.k8s.io/v1/RoleBinding",
        "scheduling.k8s.io/v1/PriorityClass",
        "v1/ConfigMap",
        "v1/Namespace",
        "v1/PersistentVolumeClaim",
        "v1/Pod",
        "v1/Secret",
        "v1/Service",
        "v1/ServiceAccount",
    )
)
CRDS = (
    (KEDA, "config/crd/bases/keda.sh_scaledobjects.yaml"),
    (PROMETHEUS_OPERATOR, "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"),
    (PROMETHEUS_OPERATOR, "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"),
)

_GVK = "x-kubernetes-group-version-kind"


def module(of: tuple[str, str]) -> Path:
    """Return the folder of a Go module, downloading it if it is missing."""
    name, version = of
    with tempfile.TemporaryDirectory() as elsewhere:
        command = ["go", "mod", "download", "-json", f"{name}@{version}"]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, cwd=elsewhere)
    return Path(json.loads(answer.stdout)["Dir"])


def kubernetes(document: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of the kinds in use, by `<apiVersion>/<kind>`, from the OpenAPI document."""
    definitions: dict[str, Any] = document["definitions"]
    roots = {
        "/".join(filter(None, (gvk["group"], gvk["version"], gvk["kind"]))): name
        for name, definition in definitions.items()
        for gvk in definition.get(_GVK, ())
    }
    roots = {kind: name for kind, name in roots.items() if kind in KINDS}
    kept: dict[str, Any] = {}
    waiting = list(roots.values())
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept[name] = strict(definitions[name])
            waiting += references(kept[name])
    # Both may be strings or numbers.
    for name in ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "io.k8s.apimachinery.pkg.api.resource.Quantity"):
        kept[name] = {"type": ["string", "number"]}
    return {
        "kinds": {kind: {"$ref": f"#/definitions/{roots[kind]}"} for kind in sorted(roots)},
        "definitions": dict(sorted(kept.items())),
    }


def strict(schema: Any) -> Any:
    """Return a schema without its prose that rejects unknown properties."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {
        key: {name: strict(part) for name, part in value.items()} if key == "properties" else strict(value)
        for key, value in schema.items()
        if key not in ("description", "example", "default") and not key.startswith("x-kubernetes-")
    }
    if schema.get("x-kubernetes-int-or-string"):
        plain = {"type": ["string", "integer"]}
    elif "properties" in plain and not schema.get("x-kubernetes-preserve-unknown-fields"):
        plain.setdefault("additionalProperties", False)
    return plain


def skaffold(document: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of skaffold.yaml without its prose, which is most of its size."""
    prose = ("description", "x-intellij-html-description", "preferredOrder", "examples", "default")

    def bare(part: Any) -> Any:
        if isinstance(part, list):
            return [bare(each) for each in part]
        if not isinstance(part, dict):
            return part
        return {
            key: {name: bare(each) for name, each in value.items()} if key == "properties" else bare(value)
            for key, value in part.items()
            if key not in prose
        }

    plain: dict[str, Any] = bare(document)
    return plain


def references(schema: Any) -> list[str]:
    """Return the names of the definitions that a schema refers to."""
    if isinstance(schema, list):
        return [name for part in schema for name in references(part)]
    if not isinstance(schema, dict):
        return []
    own = [schema["$ref"].removeprefix("#/definitions/")] if isinstance(schema.get("$ref"), str) else []
    return own + [name for part in schema.values() for name in references(part)]


def custom(path: Path) -> dict[str, dict[str, Any]]:
    """Return the schemas of a CRD's served versions, by `<apiVersion>/<kind>`."""
    spec = yaml.safe_load(path.read_text())["spec"]
    found = {}
    for version in spec["versions"]:
        schema = strict(version["schema"]["openAPIV3Schema"])
        # The API server validates metadata.
        schema["properties"]["metadata"] = {"type": "object"}
        found[f"{spec['group']}/{version['name']}/{spec['names']['kind']}"] = schema
    return found


def write(name: str, content: object) -> None:
    """Write a schema without indentation, which would be half of its bytes."""
    (TARGET / name).write_text(json.dumps(content, separators=(",", ":"), sort_keys=True) + "\n")


def main() -> None:
    """Write all schemas and their README."""
    TARGET.mkdir(parents=True, exist_ok=True)
    source = module(KUBERNETES)
    write("kubernetes.json", kubernetes(json.loads((source / "api/openapi-spec/swagger.json").read_text())))
    write("custom.json", {kind: schema for of, path in CRDS for kind, schema in custom(module(of) / path).items()})
    write("compose.json", json.loads((module(COMPOSE) / "schema/compose-spec.json").read_text()))
    schemas = module(SKAFFOLD) / "docs-v2/content/en/schemas"
    write("skaffold.json", skaffold(json.loads((schemas / f"{SKAFFOLD_VERSION}.json").read_text())))
    (TARGET / "LICENSE").write_text((source / "LICENSE").read_text())
    notices = [module(of) / "NOTICE" for of in (KUBERNETES, KEDA, PROMETHEUS_OPERATOR, COMPOSE)]
    (TARGET / "NOTICE").write_text("\n".join(notice.read_text() for notice in notices if notice.exists()))
    rows = "".join(
        f"| `{file}` | {what} | {of[0]} {of[1]} |\n"
        for file, what, of in (
            ("kubernetes.json", "the OpenAPI document, pruned to the kinds in use", KUBERNETES),
            ("custom.json", "KEDA's ScaledObject", KEDA),
            ("custom.json", "PodMonitor and PrometheusRule", PROMETHEUS_OPERATOR),
            ("compose.json", "the schema of compose files", COMPOSE),
            ("skaffold.json", f"the schema of skaffold.yaml, {SKAFFOLD_VERSION}", SKAFFOLD),
        )
    )
    (TARGET / "README.md").write_text(
        "# Third-party schemas\n\nExtracted from Go modules by `make schemas` (hack/schemas.py), without "
        "descriptions; they reject unknown properties.\nAll are under the Apache License 2.0 (LICENSE, NOTICE).\n\n"
        f"| file | what | module |\n|---|---|---|\n{rows}"
    )


if __name__ == "__main__":
    main()
