"""The chart's manifests, rendered for tests."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from helm_python.chart import Chart

Manifest = dict[str, Any]

_WITH_TEMPLATE = frozenset(("Deployment", "StatefulSet", "Job"))


@dataclass(frozen=True)
class Rendered:
    """The result of rendering the chart with some values."""

    values: Mapping[str, Any]
    notes: str
    objects: tuple[Manifest, ...]

    def of(self, kind: str) -> dict[str, Manifest]:
        """Return the objects of a kind, by name."""
        return {item["metadata"]["name"]: item for item in self.objects if item["kind"] == kind}

    def pods(self) -> Iterator[tuple[str, Manifest]]:
        """Yield all pod templates, including those of dedicated workers, with a name for messages."""
        for item in (*self.objects, *self.dedicated()):
            name = f"{item['kind']}/{item['metadata']['name']}"
            if item["kind"] in _WITH_TEMPLATE:
                yield name, item["spec"]["template"]
            elif item["kind"] == "Pod":
                yield name, item

    def dedicated(self) -> list[Manifest]:
        """Return the templates of dedicated workers, as the operator reads them."""
        maps = [item for name, item in self.of("ConfigMap").items() if name.endswith("-dedicated-workers")]
        return [
            document for item in maps for text in (item["data"] or {}).values() for document in yaml.safe_load_all(text)
        ]


def containers(pod: Manifest) -> list[Manifest]:
    """Return the containers of a pod, init containers first."""
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def environment(container: Manifest) -> dict[str, Any]:
    """Return the variables of a container: the value, or the `valueFrom`."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container.get("env", ())}


def scenario(name: str) -> Mapping[str, Any]:
    """Return the values of a scenario in the chart's `ci` directory."""
    values: Mapping[str, Any] = yaml.safe_load(Path(f"charts/imago/ci/{name}-values.yaml").read_text())
    return values


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return values overridden by others, as Helm merges them."""
    result = copy.deepcopy(dict(base))
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def render(chart: Chart, values: Mapping[str, Any], *, name: str = "imago", namespace: str = "pictures") -> Rendered:
    """Render the chart; raise Helm's errors."""
    texts = chart.render(dict(values), name=name, namespace=namespace)
    notes = "".join(text for path, text in texts.items() if path.endswith("NOTES.txt"))
    manifests = [text for path, text in texts.items() if not path.endswith("NOTES.txt")]
    objects = tuple(item for text in manifests for item in yaml.safe_load_all(text) if item)
    return Rendered(chart.merge_values(dict(values)), notes, objects)
