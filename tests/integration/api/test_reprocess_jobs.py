"""Reprocess jobs by API: created, counted, listed, changed and deleted by administrators and the operator."""

from typing import Any
from uuid import uuid4

import pytest

from imago.db.engine import Database
from tests.integration.api.conftest import OPERATOR_KEY, Api, Tenant, serve
from tests.support.reprocessing import Runner, old_image, runs

PATH = "/admin/reprocess-jobs"
OCR = {"selection": {"stages": ["ocr"]}}


async def test_a_job_is_created_listed_changed_and_deleted_and_audited(api: Api, tenant: Tenant) -> None:
    image = await old_image(api.services.db, tenant.client)
    status, job = await api.call("POST", PATH, json={**OCR, "images_per_minute": 30})
    assert (status, job["phase"], job["counts"]["matched"]) == (201, "running", 1)
    assert job["selection"] == {"stages": ["ocr"], "clients": []} | dict.fromkeys(
        ("created_from", "created_to", "taken_from", "taken_to", "status", "tag", "engine_not", "model_not")
    )
    assert (job["images_per_minute"], job["created_by"], job["completed_at"]) == (30, "admin", None)
    _, page = await api.call("GET", PATH)
    assert page == {"items": [job], "next_cursor": None}
    status, changed = await api.call("PATCH", f"{PATH}/{job['id']}", json={"suspended": True})
    assert (status, changed["phase"]) == (200, "suspended")
    await Runner(api.services.db).run()
    assert (await runs(api.services.db, image))["ocr"] == 1
    assert (await api.call("GET", f"{PATH}/{job['uuid']}"))[1] == changed
    assert (await api.call("DELETE", f"{PATH}/{job['uuid']}"))[0] == 204
    assert (await api.call("GET", f"{PATH}/{job['id']}"))[0] == 404
    _, log = await api.call("GET", "/admin/audit")
    recorded = [(record["action"], record["details"]["job"]) for record in log["items"][:3]]
    actions = ("reprocess-job.deleted", "reprocess-job.changed", "reprocess-job.created")
    assert recorded == [(action, job["uuid"]) for action in actions]
    assert all(record["actor"] == "admin" and record["request_id"] for record in log["items"][:3])


async def test_a_dry_run_only_counts(api: Api, tenant: Tenant) -> None:
    await old_image(api.services.db, tenant.client)
    assert await api.call("POST", PATH, json={**OCR, "dry_run": True}) == (200, {"matched": 1})
    selection = {**OCR["selection"], "tag": "beach"}
    assert await api.call("POST", PATH, json={"selection": selection, "dry_run": True}) == (200, {"matched": 0})
    assert (await api.call("GET", PATH))[1]["items"] == []


async def test_a_selection_without_images_is_refused(api: Api, tenant: Tenant) -> None:
    status, problem = await api.call("POST", PATH, json=OCR)
    assert (status, problem["code"]) == (422, "nothing-selected")
    await tenant.upload(b"\xff\xd8\xff")
    assert "No image matches" in problem["detail"]


async def test_disabled_stages_are_refused(sqlite_db: Database, tmp_path: Any) -> None:
    api = await serve(sqlite_db, tmp_path, disabled_stages=("vision",))
    body = {"selection": {"stages": ["ocr", "vision"]}}
    status, problem = await api.call("POST", PATH, json={**body, "dry_run": True})
    assert (status, problem["errors"]) == (
        422,
        {"selection": {"stages": ["The stage vision is disabled on this server."]}},
    )
    await api.http.close()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "selection"),
        ({"selection": {}}, "stages"),
        ({"selection": {"stages": []}}, "stages"),
        ({"selection": {"stages": ["blur"]}}, "stages"),
        ({"selection": {"stages": ["ocr"], "clients": []}}, "clients"),
        ({"selection": {"stages": ["ocr"], "clients": ["everybody"]}}, "clients"),
        ({"selection": {"stages": ["ocr"], "clients": [str(uuid4())]}}, "clients"),
        ({"selection": {"stages": ["ocr"], "labels": {}}}, "labels"),
        ({"selection": {"stages": ["ocr"], "status": "processing"}}, "status"),
        ({"selection": {"stages": ["ocr"], "model_not": "x"}}, "model_not"),
        ({"selection": {"stages": ["vision"], "engine_not": "x"}}, "engine_not"),
        (
            {
                "selection": {
                    "stages": ["ocr"],
                    "created_from": "2026-02-01T00:00:00Z",
                    "created_to": "2026-01-01T00:00:00Z",
                }
            },
            "created_from",
        ),
        ({**OCR, "images_per_minute": 0}, "images_per_minute"),
        ({**OCR, "images_per_minute": 6001}, "images_per_minute"),
        ({**OCR, "dry_run": "yes"}, "dry_run"),
    ],
)
async def test_a_bad_job_is_refused_with_the_field(api: Api, body: dict[str, Any], field: str) -> None:
    status, problem = await api.call("POST", PATH, json=body)
    assert (status, problem["code"]) == (422, "validation-failed")
    assert field in str(problem["errors"])


async def test_the_operator_may_manage_jobs_and_a_client_may_not(api: Api, tenant: Tenant) -> None:
    await old_image(api.services.db, tenant.client)
    uuid = str(uuid4())
    for _ in range(2):
        status, job = await api.call("POST", PATH, key=OPERATOR_KEY, json={**OCR, "uuid": uuid})
        assert (status, job["uuid"], job["created_by"]) == (201, uuid, "operator")
    other = {"selection": {"stages": ["exif"]}, "uuid": uuid}
    assert (await api.call("POST", PATH, key=OPERATOR_KEY, json=other))[0] == 409
    assert (await tenant.call("POST", PATH, json=OCR))[0] == 403
    assert (await tenant.call("GET", PATH))[0] == 403


async def test_lists_have_pages(api: Api, tenant: Tenant) -> None:
    await old_image(api.services.db, tenant.client)
    created = [(await api.call("POST", PATH, json=OCR))[1]["id"] for _ in range(3)]
    _, page = await api.call("GET", f"{PATH}?limit=2")
    _, rest = await api.call("GET", f"{PATH}?limit=2&cursor={page['next_cursor']}")
    assert [job["id"] for job in page["items"] + rest["items"]] == created[::-1]
    assert rest["next_cursor"] is None
