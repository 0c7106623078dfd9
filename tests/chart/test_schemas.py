"""Every object of every scenario matches the schemas of Kubernetes, KEDA and the Prometheus Operator."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.support.manifests import Manifest, Rendered

SCHEMAS = Path("tests/chart/schemas")


@functools.cache
def validator(kind: str) -> Draft202012Validator:
    """Return the validator of `<apiVersion>/<kind>`; raise KeyError for a kind without a schema."""
    custom = json.loads((SCHEMAS / "custom.json").read_text())
    if kind in custom:
        return Draft202012Validator(custom[kind])
    document = json.loads((SCHEMAS / "kubernetes.json").read_text())
    return Draft202012Validator(document["kinds"][kind] | {"definitions": document["definitions"]})


def errors(item: Manifest) -> list[str]:
    if item["kind"] == "CustomResourceDefinition":
        # Checked by a real API server in tests/cluster.
        return []
    found = validator(f"{item['apiVersion']}/{item['kind']}").iter_errors(item)
    return [f"{item['kind']}/{item['metadata']['name']} {error.json_path}: {error.message[:300]}" for error in found]


def test_every_object_is_valid(rendered: Rendered) -> None:
    assert [error for item in rendered.objects for error in errors(item)] == []


def without_placeholders(item: Any) -> Any:
    """Return a template with its placeholders replaced, as the operator does."""
    text = json.dumps(item).replace('"$(MAX_REPLICAS)"', "3")
    for placeholder in ("NAME", "LANE", "STREAM"):
        text = text.replace(f"$({placeholder})", "0123456789abcdef")
    return json.loads(text)


def test_the_templates_of_dedicated_workers_are_valid_without_placeholders(rendered: Rendered) -> None:
    for item in rendered.dedicated():
        assert errors(without_placeholders(item)) == []


@pytest.mark.parametrize(
    "change",
    ["spec: {replica: 1}", "spec: {template: {spec: {containers: [{name: a, port: 1}]}}}", "spec: {replicas: many}"],
)
def test_a_mistake_is_found(change: str) -> None:
    good = yaml.safe_load(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a},"
        " spec: {selector: {}, template: {spec: {containers: [{name: a}]}}}}"
    )
    assert errors(good) == []
    spec = yaml.safe_load(change)["spec"]
    assert errors({**good, "spec": {**good["spec"], **spec}}) != []
