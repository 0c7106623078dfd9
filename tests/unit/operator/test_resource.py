"""Reading a spec, and which client a resource stands for."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from imago_operator.resource import (
    InvalidSpec,
    build_client,
    client_uuid,
    owner_of,
    parse_duration,
    parse_quantity,
    read_spec,
)

UID = "6f1c0b9e-3f3c-4e2e-9d57-0b1f6a2c7d11"
OTHER = "0a4f9d8e-1111-4222-8333-944455566677"


def body(spec: dict[str, Any] | None = None, *, status: dict[str, Any] | None = None, name: str = "atelier") -> Any:
    return {
        "metadata": {"namespace": "photos", "name": name, "uid": UID, "generation": 1, "resourceVersion": "1"},
        "spec": spec or {},
        "status": status or {},
    }


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [
        ("50Gi", 50 * 2**30),
        ("1.5Ki", 1536),
        ("1k", 1000),
        ("2E", 2 * 10**18),
        ("1e3", 1000),
        ("1000m", 1),
        (12, 12),
        ("0", 0),
    ],
)
def test_a_quantity_is_read_as_kubernetes_reads_it(text: str | int, bytes_: int) -> None:
    assert parse_quantity(text) == bytes_


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "50gb", "-1", "1m", "0.5", "1e", "1KiB", "NaN"])
def test_anything_but_a_quantity_of_whole_bytes_is_rejected(text: str) -> None:
    with pytest.raises(ValueError):
        parse_quantity(text)


def test_durations_may_be_in_days() -> None:
    assert parse_duration("90d") == timedelta(days=90)
    assert parse_duration("24h") == timedelta(hours=24)
    for wrong in ("", "90", "d", "1d12h", "-1h", "1w"):
        with pytest.raises(ValueError):
            parse_duration(wrong)


def test_an_empty_spec_has_the_defaults_of_the_schema() -> None:
    spec = read_spec(body())
    assert (spec.installation, spec.plan, spec.name, spec.secret_name) == (
        "default",
        "free",
        "atelier",
        "atelier-imago",
    )
    assert (spec.interval, spec.grace, spec.lane, spec.suspended, spec.erase) == (
        None,
        timedelta(hours=24),
        None,
        False,
        False,
    )
    assert spec.stages == ("exif", "ocr", "vision")
    assert spec.limits == {}
    assert "admin" not in spec.scopes
    assert "clients:manage" not in spec.scopes


def test_a_spec_becomes_the_body_of_an_api_request() -> None:
    spec = read_spec(
        body(
            {
                "displayName": "Atelier Photo",
                "plan": "premium",
                "quota": {"storage": "50Gi", "images": 7, "aiCallsPerMonth": 0},
                "rateLimit": {"requestsPerMinute": 600, "burst": 100},
                "pipeline": {"stages": ["ocr"], "ocrLanguages": ["fra"], "descriptionLanguage": "fr"},
                "scopes": ["images:write", "images:read"],
            }
        )
    )
    built = build_client(spec, owner="c/n/a", lane=None, active=True)
    assert built == {
        "name": "Atelier Photo",
        "plan": "premium",
        "scopes": ["images:read", "images:write"],
        "limits": {
            "storage_bytes": 50 * 2**30,
            "images": 7,
            "ai_calls_per_month": 0,
            "requests_per_minute": 600,
            "burst": 100,
        },
        "pipeline": {"stages": ["ocr"], "ocr_languages": ["fra"], "description_language": "fr"},
        "owner": "c/n/a",
        "active": True,
    }
    assert build_client(spec, owner="c/n/a", lane="dedicated", active=False)["lane"] == "dedicated"


def test_a_spec_that_violates_the_schema_is_rejected_with_a_message() -> None:
    with pytest.raises(InvalidSpec, match="not a quantity"):
        read_spec(body({"quota": {"storage": "lots"}}))


def test_the_client_is_the_one_in_the_spec_else_in_the_status_else_in_the_secret_else_new() -> None:
    in_spec, in_status, in_secret = UUID(OTHER), UUID(int=2), UUID(int=3)
    assert client_uuid(body({"clientId": OTHER}, status={"clientId": str(in_status)}), in_secret) == in_spec
    assert client_uuid(body(status={"clientId": str(in_status)}), in_secret) == in_status
    assert client_uuid(body(), in_secret) == in_secret, "a restore brings back the Secret, not the status"
    assert client_uuid(body(), None) == UUID(UID)


def test_an_owner_consists_of_cluster_namespace_uid_and_resource_name() -> None:
    assert owner_of(cluster="c", namespace_uid="n", name="atelier") == "c/n/atelier"
