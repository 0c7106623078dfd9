"""Invalid and extreme JSON bodies are refused and cause no internal error."""

import pytest

from imago.api.app import MAX_JSON_BYTES
from tests.integration.api.conftest import Tenant


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
