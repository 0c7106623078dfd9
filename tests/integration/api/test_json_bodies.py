"""Invalid and extreme JSON bodies are refused and cause no internal error."""

import pytest

from imago.api.server.app import MAX_JSON_BYTES
from tests.integration.api.conftest import Api, Tenant


@pytest.mark.parametrize(
    ("body", "content_type", "refusal"),
    [
        (b"{", "application/json", (400, "bad-request")),
        (b"\xff\xfe{}", "application/json", (400, "bad-request")),
        (b"[" * 200_000, "application/json", (400, "bad-request")),
        (b'{"description": ' + b"9" * 10_000 + b"}", "application/json", (400, "bad-request")),
        (b'{"description": NaN}', "application/json", (422, "validation-failed")),
        (b'{"description": "\\ud800"}', "application/json", (422, "validation-failed")),
        (b"[]", "application/json", (422, "validation-failed")),
        (b"null", "application/json", (422, "validation-failed")),
        (b"", "application/json", (422, "validation-failed")),
        (b"description=x", "application/x-www-form-urlencoded", (422, "validation-failed")),
        (b"{}", "application/json; charset=nonsense", (400, "bad-request")),
        (b'"' + b"x" * MAX_JSON_BYTES + b'"', "application/json", (413, "request-too-large")),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else str(value),
)
async def test_an_invalid_body_is_refused(
    tenant: Tenant, body: bytes, content_type: str, refusal: tuple[int, str]
) -> None:
    code, response = await tenant.call("POST", "/ai/draft-task", data=body, headers={"Content-Type": content_type})
    assert (code, response["code"]) == refusal


@pytest.mark.parametrize(
    ("body", "field", "allowed"),
    [
        ({"name": "a", "plan": "free", "scopes": ["images:rea"]}, "scopes.0", "images:read"),
        ({"name": "a", "plan": "gold"}, "plan", "free, standard, premium"),
        ({"name": "a", "plann": "free"}, "plann", "the fields are: limits, name, pipeline, plan, scopes"),
        ({"name": "a", "plan": "free", "limits": {"image": 1}}, "limits.image", "ai_calls_per_month"),
        ({"plan": "free"}, "name", "Missing data for required field"),
    ],
)
async def test_a_refusal_names_the_field_and_what_is_allowed(
    api: Api, body: dict[str, object], field: str, allowed: str
) -> None:
    status, problem = await api.call("POST", "/auth/clients", json=body)
    assert (status, problem["code"]) == (422, "validation-failed")
    assert f"{field}: " in problem["detail"]
    assert allowed in problem["detail"]
    assert field.split(".")[0] in problem["errors"]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"name": "secret-name", }', "line 1, column 25"),
        (b'{"name": "secret-name",\n"plan" "free"}', "line 2, column 8"),
        (b"secret-name", "line 1, column 1"),
        (b'{"name": "secret-name"', "line 1, column 23"),
    ],
)
async def test_broken_json_is_refused_with_its_place_and_nothing_of_its_text(api: Api, body: bytes, place: str) -> None:
    headers = {"Content-Type": "application/json"}
    status, problem = await api.call("POST", "/auth/clients", data=body, headers=headers)
    assert status == 400
    assert place in problem["detail"]
    assert "secret-name" not in str(problem)
