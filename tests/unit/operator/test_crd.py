"""The CRD without a server: descriptions, and agreement with the core, the operator and the docs."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from devtools.photos import ROOT
from imago.api.clients.requests import MAX_GRACE_SECONDS
from imago.core.clients.model import Plan
from imago.core.clients.scopes import CLIENT_SCOPES
from imago.core.jobs.stages import PIPELINE_STAGES, Stage
from imago.core.lanes.model import DEDICATED, SHARED_LANES
from imago.core.reprocessing.model import DEFAULT_IMAGES_PER_MINUTE, MAX_IMAGES_PER_MINUTE
from imago_operator import resource
from imago_operator.conditions import ConditionType, Reason
from imago_operator.reprocessing.spec import REPROCESS_KIND, REPROCESS_PLURAL, read_reprocess_spec

CRD = yaml.safe_load((ROOT / "k8s/crds/imago.dev_imagoclients.yaml").read_text())
VERSION = CRD["spec"]["versions"][0]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]
SPEC = SCHEMA["properties"]["spec"]["properties"]
REPROCESS_CRD = yaml.safe_load((ROOT / "k8s/crds/imago.dev_imagoreprocesses.yaml").read_text())
REPROCESS_SCHEMA = REPROCESS_CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
SAMPLES = sorted((ROOT / "k8s/samples").glob("*.yaml"))


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every field with its path."""
    for name, inner in (schema.get("properties") or {}).items():
        yield f"{path}.{name}", inner
        yield from fields(inner, f"{path}.{name}")
    if "items" in schema:
        yield f"{path}[]", schema["items"]
        yield from fields(schema["items"], f"{path}[]")


def test_every_field_has_a_description_that_is_a_sentence() -> None:
    for path, field in fields(SCHEMA):
        if path == ".metadata":
            continue
        text = field.get("description", "")
        assert text, path
        assert text[0].isupper() or text.split()[0] in ("standard",), path
        assert text.endswith("."), path


def test_the_crds_names_are_those_that_the_operator_watches() -> None:
    names = CRD["spec"]["names"]
    assert (CRD["spec"]["group"], VERSION["name"], names["plural"], names["kind"]) == (
        resource.GROUP,
        resource.VERSION,
        resource.PLURAL,
        resource.KIND,
    )
    assert (names["shortNames"], names["categories"], CRD["spec"]["scope"]) == (["imc"], ["imago"], "Namespaced")
    assert VERSION["subresources"] == {"status": {}}


def test_reprocess_jobs_have_the_names_stages_and_limits_of_the_operator_and_the_api() -> None:
    names = REPROCESS_CRD["spec"]["names"]
    assert (names["plural"], names["kind"], names["shortNames"]) == (REPROCESS_PLURAL, REPROCESS_KIND, ["imr"])
    spec = REPROCESS_SCHEMA["properties"]["spec"]["properties"]
    assert spec["selection"]["properties"]["stages"]["items"]["enum"] == [str(stage) for stage in Stage]
    rate = spec["imagesPerMinute"]
    assert (rate["default"], rate["maximum"]) == (DEFAULT_IMAGES_PER_MINUTE, MAX_IMAGES_PER_MINUTE)


def test_printed_columns_refer_to_existing_fields() -> None:
    columns = VERSION["additionalPrinterColumns"]
    assert [column["name"] for column in columns] == ["Plan", "Lane", "Ready", "Reason", "Key", "Storage", "Age"]
    known = {path for path, _ in fields(SCHEMA)} | {".metadata.creationTimestamp"}
    for column in columns:
        assert column["jsonPath"].split("[?")[0] in known, column


def test_enums_and_defaults_are_those_of_the_core() -> None:
    assert SPEC["plan"]["enum"] == [str(plan) for plan in Plan]
    assert set(SPEC["scopes"]["items"]["enum"]) == set(SPEC["scopes"]["default"]) == {str(s) for s in CLIENT_SCOPES}
    stages = [str(stage) for stage in PIPELINE_STAGES]
    assert SPEC["pipeline"]["properties"]["stages"]["items"]["enum"] == stages
    assert SPEC["pipeline"]["properties"]["stages"]["default"] == stages
    assert set(SPEC["priority"]["properties"]["lane"]["enum"]) == {*SHARED_LANES, DEDICATED}
    grace = SPEC["apiKey"]["properties"]["rotation"]["properties"]["gracePeriod"]
    assert f"{MAX_GRACE_SECONDS // 3600}h" in grace["x-kubernetes-validations"][0]["rule"]


def test_the_operators_defaults_are_those_of_the_schema() -> None:
    body = {"metadata": {"name": "a", "namespace": "n", "uid": "u"}, "spec": {}}
    bare = resource.read_spec(body)
    rotation = SPEC["apiKey"]["properties"]["rotation"]["properties"]
    assert bare.installation == SPEC["installation"]["default"]
    assert bare.plan == SPEC["plan"]["default"]
    assert set(bare.scopes) == set(SPEC["scopes"]["default"])
    assert list(bare.stages) == SPEC["pipeline"]["properties"]["stages"]["default"]
    assert bare.description_language == SPEC["pipeline"]["properties"]["descriptionLanguage"]["default"]
    assert bare.grace == resource.parse_duration(rotation["gracePeriod"]["default"])
    assert bare.suspended == SPEC["suspended"]["default"]
    assert bare.erase == (SPEC["deletionPolicy"]["default"] == "Delete")


def test_rules_have_messages_and_lists_have_bounds() -> None:
    """Without bounds on lists and strings, the API server counts a rule as unbounded and rejects the CRD."""
    for path, field in [("", SCHEMA), *fields(SCHEMA)]:
        for rule in field.get("x-kubernetes-validations", ()):
            assert rule["message"], path
            assert rule["rule"].count("(") == rule["rule"].count(")"), path
        if field.get("type") == "array" and path.startswith(".spec"):
            assert "maxItems" in field, path


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_match_the_schema(path: Any) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    found = [doc for doc in documents if doc["kind"] == "ImagoClient"]
    jobs = [doc for doc in documents if doc["kind"] == REPROCESS_KIND]
    assert found or jobs
    for document in jobs:
        jsonschema.validate(document, closed(REPROCESS_SCHEMA))
        read_reprocess_spec(document)
    for document in found:
        jsonschema.validate(document, closed(SCHEMA))
        document["metadata"] |= {"namespace": "n", "uid": "u"}
        resource.read_spec(document)


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that rejects unknown fields, which the API server would only drop."""
    result = {key: value for key, value in schema.items() if not key.startswith("x-")}
    if "properties" in schema:
        result["properties"] = {name: closed(inner) for name, inner in schema["properties"].items()}
        result["additionalProperties"] = False
        if "metadata" in result["properties"]:
            result["properties"]["metadata"] = {"type": "object"}
    if "items" in schema:
        result["items"] = closed(schema["items"])
    return result


def test_the_docs_describe_every_reason_and_every_condition() -> None:
    text = (ROOT / "docs/operator.md").read_text()
    for name in (*Reason, *ConditionType):
        assert f"`{name}`" in text, name
