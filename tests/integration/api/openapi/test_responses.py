"""Responses match the schemas that the OpenAPI document has for them, with no member missing or undocumented."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from jsonschema import Draft202012Validator

from imago.core.images.ocr.result import RecognizedWord
from imago.core.images.ocr.words import PageWords, encode_words
from imago.core.images.results import (
    Camera,
    ExifResult,
    Gps,
    Iptc,
    IptcPlace,
    OcrReading,
    OcrResult,
    StageResult,
    VisionResult,
)
from imago.core.jobs.claims import Claim
from imago.core.jobs.stages import Stage
from imago.core.outbox.work_message import WorkMessage
from tests.integration.api.conftest import ADMIN_KEY, Api, Tenant
from tests.support.images import encoded
from tests.support.work import claim_stage, complete_stage

READING = OcrReading(True, "Harbour", "en", 0.93, "tesserocr")
OTHER = OcrReading(True, "Harbor", "en", 0.6, "rapidocr")
RESULTS: dict[Stage, StageResult] = {
    Stage.EXIF: ExifResult(
        Camera("NIKON", "COOLPIX P6000", "24 mm", 64, "f/5.9", "1/75", "24mm", "2008-10-22T16:28:39+02:00"),
        Gps(43.467, 11.885, 12.5, True, "https://maps.example.com/"),
        Iptc(
            "Harbour",
            keywords=("boat", "night"),
            rating=4,
            place=IptcPlace(city="Marseille"),
            locations_shown=(IptcPlace(country="France"),),
        ),
    ),
    Stage.OCR: OcrResult(
        READING,
        (READING, OTHER),
        words=encode_words("tesserocr", [PageWords(64, 48, (RecognizedWord("Harbour", 0.93, box=(4, 5, 34, 15)),))]),
    ),
    Stage.VISION: VisionResult("A harbour.", ("harbour", "boat"), 0.8, "offline/efficientnet"),
}


async def strict_schemas(api: Api) -> dict[str, Any]:
    """Return the document's schemas, in which objects may have only the members that are documented."""
    async with api.http.get("/openapi.json") as response:
        schemas: dict[str, Any] = (await response.json())["components"]["schemas"]
    for schema in schemas.values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return schemas


async def check(tenant: Tenant, schemas: dict[str, Any], path: str, name: str) -> Any:
    """Validate the response to a request by the schema with a name, and return it."""
    status, body = await tenant.call("GET", path)
    assert status == 200
    root = {"components": {"schemas": schemas}, "$ref": f"#/components/schemas/{name}"}
    Draft202012Validator(root, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(body)
    return body


async def test_results_that_are_sent_as_stored_match_the_type_they_were_made_from(api: Api, tenant: Tenant) -> None:
    _, accepted = await tenant.upload(encoded())
    for stage, result in RESULTS.items():
        message = WorkMessage(UUID(accepted["uuid"]), tenant.client.uuid, stage, 1, 1)
        claim = await claim_stage(api.services.db, message, lease=timedelta(seconds=30), max_tries=3)
        assert isinstance(claim, Claim)
        await complete_stage(api.services.db, claim, result)
    schemas, path = await strict_schemas(api), f"/images/{accepted['id']}"
    image = await check(tenant, schemas, path, "Image")
    assert (image["exif"]["gps"]["altitude"], image["ocr"]["text"]) == (12.5, "Harbour")
    assert image["exif"]["iptc"]["keywords"] == ["boat", "night"]
    assert image["ai"]["tags"] == ["harbour", "boat"]
    await check(tenant, schemas, "/images", "Images")
    await check(tenant, schemas, f"{path}/status", "Status")
    for part, name in (("exif", "Exif"), ("ocr", "Ocr"), ("ai", "Ai")):
        assert (await check(tenant, schemas, f"{path}/{part}", name))[part] is not None


async def test_the_readings_and_words_of_a_text_are_sent_where_they_are_asked_for(api: Api, tenant: Tenant) -> None:
    _, accepted = await tenant.upload(encoded())
    schemas, path = await strict_schemas(api), f"/images/{accepted['id']}/ocr"
    before = await check(tenant, schemas, f"{path}?include=readings,words", "Ocr")
    assert (before["readings"], before["words"]) == ([], None)
    message = WorkMessage(UUID(accepted["uuid"]), tenant.client.uuid, Stage.OCR, 1, 1)
    claim = await claim_stage(api.services.db, message, lease=timedelta(seconds=30), max_tries=3)
    assert isinstance(claim, Claim)
    await complete_stage(api.services.db, claim, RESULTS[Stage.OCR])
    assert set(await check(tenant, schemas, path, "Ocr")) == {"stage_status", "ocr"}
    assert "readings" not in await check(tenant, schemas, f"{path}?include=words", "Ocr")
    body = await check(tenant, schemas, f"{path}?include=readings,words", "Ocr")
    assert [reading["text"] for reading in body["readings"]] == ["Harbour", "Harbor"]
    word = {"text": "Harbour", "left": 4, "top": 5, "width": 30, "height": 10, "confidence": 0.93}
    pages = [{"width": 64, "height": 48, "words": [word]}]
    assert body["words"] == {"engine": "tesserocr", "pages": pages, "truncated": False}
    assert (await tenant.call("GET", f"{path}?include=lines"))[0] == 422


async def test_an_image_without_results_matches_its_schema(api: Api, tenant: Tenant) -> None:
    _, accepted = await tenant.upload(encoded())
    image = await check(tenant, await strict_schemas(api), f"/images/{accepted['id']}", "Image")
    assert (image["exif"], image["ocr"], image["ai"]) == (None, None, None)


async def test_a_client_matches_its_schema(api: Api, tenant: Tenant) -> None:
    schemas = await strict_schemas(api)
    await check(tenant, schemas, "/auth/me", "Me")
    status, _ = await api.call("DELETE", f"/auth/clients/{tenant.client.id}?erase=true")
    assert status == 202
    tenant.key = ADMIN_KEY
    client = await check(tenant, schemas, f"/auth/clients/{tenant.client.id}", "ClientDetail")
    assert client["erasure"]["images_total"] == 0
    await check(tenant, schemas, "/auth/clients", "Clients")
    await check(tenant, schemas, "/admin/audit", "AuditLog")
    await check(tenant, schemas, "/admin/queues", "Queues")
