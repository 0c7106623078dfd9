"""Dead letters are listed, filtered, and replayed once."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from imago.core.clients.model import Client
from imago.core.jobs import completion
from imago.core.jobs.claims import Claim
from imago.core.jobs.dead_letters import ReplayOutcome, replay
from imago.core.jobs.failures import PermanentFailure
from imago.core.jobs.stages import Stage
from imago.core.outbox.work_message import WorkMessage
from imago.core.uploads.model import AcceptedImage
from imago.db.engine import Database
from tests.integration.api.conftest import ADMIN_KEY, Api, Tenant
from tests.support.images import encoded
from tests.support.samples import make_client, make_image
from tests.support.work import claim_stage


async def die(db: Database, client: Client, image: UUID, stage: Stage, code: str) -> None:
    """Make the first run of a stage fail for good."""
    message = WorkMessage(image, client.uuid, stage, 1, 1)
    claim = await claim_stage(db, message, lease=timedelta(seconds=30), max_tries=3, headers={})
    assert isinstance(claim, Claim)
    second = timedelta(seconds=1)
    failure = PermanentFailure(code, "It is broken.")
    await completion.fail_stage(db, claim, failure, max_tries=3, base=second, cap=second, headers={})


async def admin(api: Api, method: str, path: str, **options: Any) -> tuple[int, Any]:
    async with api.http.request(method, path, headers={"X-API-Key": ADMIN_KEY}, **options) as response:
        return response.status, await response.json()


async def dead_image(api: Api, tenant: Tenant, *codes: tuple[Stage, str]) -> int:
    _, accepted = await tenant.upload(encoded())
    for stage, code in codes:
        await die(api.services.db, tenant.client, UUID(accepted["uuid"]), stage, code)
    return int(accepted["id"])


async def test_the_reason_of_a_dead_stage_is_in_the_clients_language(api: Api, tenant: Tenant) -> None:
    changes = {"pipeline": {"description_language": "français"}}
    assert (await api.call("PATCH", f"/auth/clients/{tenant.client.uuid}", json=changes))[0] == 200
    image = await dead_image(api, tenant, (Stage.OCR, "child-died"))
    _, state = await tenant.call("GET", f"/images/{image}/status")
    assert state["stages"]["ocr"]["error_text"] == "Le processus qui traitait l'image s'est arrêté."
    _, page = await admin(api, "GET", "/admin/dead-letters")
    assert page["items"][0]["error_text"] != state["stages"]["ocr"]["error_text"], "administrators read English"


async def test_dead_letters_are_listed_newest_first_and_filtered(api: Api, tenant: Tenant) -> None:
    other = await api.new_client("other")
    first = await dead_image(api, tenant, (Stage.OCR, "child-died"), (Stage.VISION, "bad-image"))
    second = await dead_image(api, other, (Stage.OCR, "bad-image"))

    async def images(query: str = "") -> list[tuple[int, str]]:
        status, page = await admin(api, "GET", f"/admin/dead-letters{query}")
        assert status == 200, page
        return [(item["image_id"], item["stage"]) for item in page["items"]]

    assert await images() == [(second, "ocr"), (first, "vision"), (first, "ocr")]
    assert await images("?stage=ocr") == [(second, "ocr"), (first, "ocr")]
    assert await images("?error_code=bad-image") == [(second, "ocr"), (first, "vision")]
    assert await images(f"?client={other.client.uuid}") == [(second, "ocr")]
    assert await images(f"?client={tenant.client.id}&stage=vision") == [(first, "vision")]
    assert await images("?created_to=2020-01-01T00:00:00Z") == []
    _, page = await admin(api, "GET", "/admin/dead-letters?limit=2")
    assert len(page["items"]) == 2
    assert await images(f"?limit=2&cursor={page['next_cursor']}") == [(first, "ocr")]
    item = page["items"][0]
    assert (item["error_text"], item["attempts"], item["replayed_at"]) == ("It is broken.", 1, None)


async def test_a_replayed_letter_has_a_new_run_and_is_not_replayed_again(api: Api, tenant: Tenant) -> None:
    image = await dead_image(api, tenant, (Stage.OCR, "child-died"))
    _, page = await admin(api, "GET", "/admin/dead-letters")
    body = {"ids": [page["items"][0]["id"], 999]}
    assert await admin(api, "POST", "/admin/dead-letters/replay", json=body) == (
        202,
        {"replayed": 1, "skipped": 0, "missing": 1, "remaining": 0},
    )
    _, status = await tenant.call("GET", f"/images/{image}/status")
    assert (status["stages"]["ocr"]["run"], status["stages"]["ocr"]["status"]) == (2, "pending")
    assert [row.message_id for row in api.published.rows if ":ocr:2:" in row.message_id], "the new run was published"
    assert (await admin(api, "POST", "/admin/dead-letters/replay", json=body))[1]["skipped"] == 1
    assert (await admin(api, "GET", "/admin/dead-letters?replayed=true"))[1]["items"][0]["replayed_at"]
    assert (await admin(api, "GET", "/admin/dead-letters?replayed=false"))[1]["items"] == []


async def test_all_letters_of_an_error_code_are_replayed_in_several_requests(
    api: Api, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imago.api.admin.routes.MAX_REPLAYS", 3)
    for _ in range(5):
        await dead_image(api, tenant, (Stage.OCR, "child-died"), (Stage.VISION, "bad-image"))
    body = {"error_code": "child-died"}
    _, first = await admin(api, "POST", "/admin/dead-letters/replay", json=body)
    assert (first["replayed"], first["remaining"]) == (3, 2)
    _, second = await admin(api, "POST", "/admin/dead-letters/replay", json=body)
    assert (second["replayed"], second["remaining"]) == (2, 0)
    assert len((await admin(api, "GET", "/admin/dead-letters?replayed=false"))[1]["items"]) == 5


async def test_a_letter_whose_stage_had_another_run_is_skipped(api: Api, tenant: Tenant) -> None:
    image = await dead_image(api, tenant, (Stage.OCR, "child-died"))
    assert (await tenant.call("POST", f"/images/{image}/reprocess", json={"stages": ["ocr"]}))[0] == 202
    _, response = await admin(api, "POST", "/admin/dead-letters/replay", json={"stage": "ocr"})
    assert (response["replayed"], response["skipped"]) == (0, 1)


@pytest.mark.parametrize(
    "body", [{}, {"ids": []}, {"ids": [1], "stage": "ocr"}, {"stage": "no"}, {"client": "x"}, {"ids": [0]}, {"all": 1}]
)
async def test_a_replay_needs_ids_or_a_filter(api: Api, body: dict[str, Any]) -> None:
    status, problem = await admin(api, "POST", "/admin/dead-letters/replay", json=body)
    assert (status, problem["code"]) == (422, "validation-failed")


async def test_tenants_have_no_access_to_dead_letters(api: Api, tenant: Tenant) -> None:
    assert (await tenant.call("GET", "/admin/dead-letters"))[0] == 403
    assert (await tenant.call("POST", "/admin/dead-letters/replay", json={"stage": "ocr"}))[0] == 403


async def test_concurrent_replays_create_one_run(db: Database) -> None:
    client = await make_client(db)
    image: AcceptedImage = await make_image(db, client)
    await die(db, client, image.uuid, Stage.OCR, "child-died")
    outcomes = await asyncio.gather(*(replay(db, 1, stages_off=frozenset(), headers={}) for _ in range(10)))
    assert sorted(outcome for outcome, _ in outcomes) == [ReplayOutcome.REPLAYED] + [ReplayOutcome.SKIPPED] * 9


async def test_a_disabled_stage_is_not_replayed(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    await die(db, client, image.uuid, Stage.OCR, "child-died")
    assert await replay(db, 1, stages_off=frozenset({Stage.OCR}), headers={}) == (ReplayOutcome.SKIPPED, ())
