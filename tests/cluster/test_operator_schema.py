"""Every rule of the CRD on a real API server, with specs that it accepts and specs that it rejects."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml

from devtools.kubernetes.access import Access
from devtools.photos import ROOT
from imago_operator.apis.kubernetes import KubernetesRefused
from imago_operator.resource import parse_duration, parse_quantity
from tests.support.operator import CRD, Kube, imc, imc_path

ONE, OTHER = "6f1c0b9e-3f3c-4e2e-9d57-0b1f6a2c7d11", "0a4f9d8e-1111-4222-8333-944455566677"

VALID: list[dict[str, Any]] = [
    {},
    {"plan": "premium", "displayName": "Atelier Photo"},
    {"clientId": ONE},
    {"quota": {"storage": "50Gi", "images": 0, "aiCallsPerMonth": 5}},
    {"quota": {"storage": 1048576}},
    {"quota": {"storage": "0"}},
    {"rateLimit": {"requestsPerMinute": 1, "burst": 1}},
    {"priority": {"lane": "premium"}},
    {"priority": {"lane": "dedicated", "maxReplicas": 4}},
    {"scopes": ["images:read"]},
    {"pipeline": {"stages": ["vision"], "ocrLanguages": ["fra", "chi_sim"], "descriptionLanguage": "fr"}},
    {"pipeline": {"ocrLanguages": ["French"], "descriptionLanguage": "fr-CA"}},
    {"apiKey": {"secretName": "my.secret", "rotation": {"interval": "90d", "gracePeriod": "24h"}}},
    {"apiKey": {"rotation": {"interval": "2d"}}},
    {"apiKey": {"rotation": {"gracePeriod": "0s"}}},
    {"apiKey": {"secretTemplate": {"labels": {"team": "a"}, "annotations": {"note": "any text"}}}},
    {"suspended": True, "deletionPolicy": "Delete"},
]

INVALID: list[tuple[dict[str, Any], str]] = [
    ({"plan": "gold"}, "Unsupported value"),
    ({"displayName": ""}, "at least 1 char"),
    ({"clientId": "atelier"}, "should match"),
    ({"scopes": []}, "at least 1 items"),
    ({"scopes": ["admin"]}, "Unsupported value"),
    ({"scopes": ["clients:manage"]}, "Unsupported value"),
    ({"scopes": ["images:read", "images:read"]}, "scopes must be unique"),
    ({"quota": {"storage": "50gb"}}, "quantity of whole bytes"),
    ({"quota": {"storage": "-1Gi"}}, "quantity of whole bytes"),
    ({"quota": {"storage": "100m"}}, "quantity of whole bytes"),
    ({"quota": {"storage": "1.5Gi"}}, "quantity of whole bytes"),
    ({"quota": {"storage": -1}}, "quantity of whole bytes"),
    ({"quota": {"images": -1}}, "greater than or equal to 0"),
    ({"rateLimit": {"requestsPerMinute": 0}}, "greater than or equal to 1"),
    ({"rateLimit": {"burst": 0}}, "greater than or equal to 1"),
    ({"priority": {"lane": "dedicated"}}, "a dedicated lane requires maxReplicas"),
    ({"priority": {"lane": "dedicated", "maxReplicas": 0}}, "greater than or equal to 1"),
    ({"priority": {"maxReplicas": 1}}, "Required value"),
    ({"priority": {"lane": "express"}}, "Unsupported value"),
    ({"pipeline": {"stages": []}}, "at least"),
    ({"pipeline": {"stages": ["thumbnail"]}}, "Unsupported value"),
    ({"pipeline": {"stages": ["ocr", "ocr"]}}, "stages must be unique"),
    ({"pipeline": {"ocrLanguages": ["fra", "fra"]}}, "languages must be unique"),
    ({"pipeline": {"ocrLanguages": [""]}}, "at least 1 char"),
    ({"pipeline": {"descriptionLanguage": "x" * 65}}, "may not be more than 64|Too long"),
    ({"apiKey": {"secretName": "Not_A_Name"}}, "should match"),
    ({"apiKey": {"rotation": {"interval": "1h"}}}, "gracePeriod must be shorter than interval"),
    ({"apiKey": {"rotation": {"interval": "1h", "gracePeriod": "1h"}}}, "gracePeriod must be shorter than interval"),
    ({"apiKey": {"rotation": {"interval": "0s", "gracePeriod": "0s"}}}, "interval must be longer than 0s"),
    ({"apiKey": {"rotation": {"interval": "soon"}}}, "should match|must be of type duration"),
    ({"apiKey": {"rotation": {"gracePeriod": "91d"}}}, "gracePeriod must be at most 90d"),
    ({"apiKey": {"secretTemplate": {"labels": {"imago.dev/client-id": ONE}}}}, "reserved for the operator"),
    ({"apiKey": {"secretTemplate": {"annotations": {"imago.dev/client": "a/b"}}}}, "reserved for the operator"),
    ({"apiKey": {"secretTemplate": {"labels": {"team": "a b"}}}}, "should match"),
    ({"deletionPolicy": "Keep"}, "Unsupported value"),
    ({"installation": "Not A Name"}, "should match"),
]


@pytest.fixture
async def kube(control_plane: Access) -> AsyncIterator[Kube]:
    """An administrator's client, with the CRD installed."""
    control_plane.apply(manifest=CRD)
    control_plane.kubectl("wait", "--for=condition=Established", "crd/imagoclients.imago.dev", "--timeout=60s")
    async with Kube(control_plane.kubeconfig) as opened:
        yield opened


async def test_valid_specs_are_accepted(kube: Kube, namespace: str) -> None:
    for number, spec in enumerate(VALID):
        created = await kube.make(namespace, f"valid-{number}", **spec)
        filled = created["spec"]
        assert filled["installation"] == "default"
        assert filled["apiKey"]["rotation"]["gracePeriod"], "defaults are visible in the resource"
        # The operator can parse what the schema accepts.
        parse_duration(filled["apiKey"]["rotation"]["gracePeriod"])
        if "storage" in filled.get("quota", {}):
            parse_quantity(filled["quota"]["storage"])


async def test_invalid_specs_are_rejected_with_a_message(kube: Kube, namespace: str) -> None:
    results = []
    for number, (spec, _) in enumerate(INVALID):
        try:
            await kube.make(namespace, f"invalid-{number}", **spec)
            results.append("accepted")
        except KubernetesRefused as error:
            results.append(str(error))
    wrong = [
        (spec, result)
        for (spec, message), result in zip(INVALID, results, strict=True)
        if not re.search(message, result)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("before", "change", "reason"),
    [
        ({"clientId": ONE}, {"clientId": OTHER}, "clientId is immutable"),
        ({"clientId": ONE}, {"clientId": None}, "clientId is immutable"),
        ({}, {"clientId": ONE}, "clientId is immutable"),
        ({}, {"installation": "another"}, "installation is immutable"),
        ({"installation": "one"}, {"installation": None}, "installation is immutable"),
    ],
)
async def test_immutable_fields_cannot_be_changed(
    kube: Kube, namespace: str, before: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    await kube.make(namespace, "fixed", **before)
    with pytest.raises(KubernetesRefused, match=reason):
        await kube.change(namespace, "fixed", **change)
    await kube.change(namespace, "fixed", plan="premium")


async def test_a_name_too_long_for_a_label_is_rejected(kube: Kube, namespace: str) -> None:
    await kube.make(namespace, "a" * 63)
    with pytest.raises(KubernetesRefused, match="at most 63 characters"):
        await kube.make(namespace, "a" * 64)


async def test_the_samples_are_accepted(kube: Kube, namespace: str) -> None:
    samples = sorted((ROOT / "k8s/samples").glob("*.yaml"))
    assert samples
    for path in samples:
        for document in yaml.safe_load_all(path.read_text()):
            if document["kind"] == "ImagoClient":
                name = document["metadata"]["name"]
                await kube.create(imc_path(namespace), imc(f"{path.stem}-{name}", **document["spec"]))


async def test_status_is_a_subresource_that_editors_of_the_spec_cannot_write(kube: Kube, namespace: str) -> None:
    created = await kube.make(namespace, "one")
    changed = await kube.patch(
        imc_path(namespace, "one"),
        {"metadata": {"resourceVersion": created["metadata"]["resourceVersion"]}, "status": {"clientId": ONE}},
    )
    assert "status" not in changed


def test_kubectl_lists_and_explains_the_resource(control_plane: Access, kube: Kube, namespace: str) -> None:
    assert "imagoclient" in control_plane.kubectl("api-resources", "--categories=imago", "--no-headers")
    explained = control_plane.kubectl("explain", "imc.spec.apiKey.rotation.interval")
    assert "90d" in explained
    shown = control_plane.kubectl("explain", "imagoclient", "--recursive")
    assert "<no description>" not in shown
