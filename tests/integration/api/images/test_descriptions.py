"""Texts of XMP and IPTC: uploaded in a file of each format, shown by the API, and found by its search."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

from imago.core.jobs.claims import Claim
from imago.core.jobs.stages import Stage
from imago.core.outbox.work_message import WorkMessage
from imago.db.engine import Database
from imago.worker.stages.base import StageTools
from imago.worker.stages.exif import ExifStage
from tests.integration.api.conftest import Api, NoTasks, Tenant, serve
from tests.support.descriptions import FORMATS, alternatives, described, iim, items, xmp
from tests.support.work import claim_stage, complete_stage

PACKET = xmp(
    alternatives("dc:title", default="Vieux-Port")
    + alternatives("dc:description", default="Bateaux dans la nuit", en="Boats at night")
    + items("dc:subject", "cœur", "東京タワー")
    + items("dc:creator", "Ann Example", kind="Seq")
    + "<photoshop:City>Łódź</photoshop:City><xmp:Rating>5</xmp:Rating>"
)


@pytest.fixture
async def tenant(db: Database, tmp_path: Path) -> AsyncIterator[Tenant]:
    """A client of an API on each database."""
    api = await serve(db, tmp_path / "objects")
    yield await api.new_client()
    await api.http.close()


async def read_exif(api: Api, tenant: Tenant, accepted: dict[str, Any], directory: Path) -> None:
    """Run the exif stage of an image that was uploaded."""
    message = WorkMessage(UUID(accepted["uuid"]), tenant.client.uuid, Stage.EXIF, 1, 1)
    claim = await claim_stage(api.services.db, message, lease=timedelta(seconds=30), max_tries=3)
    assert isinstance(claim, Claim)
    tools = StageTools(api.services.settings, api.services.store, cast(Any, NoTasks()), cast(Any, None))
    output = await ExifStage(tools).run(claim, directory)
    await complete_stage(api.services.db, claim, output.result)


async def found(tenant: Tenant, query: str) -> list[int]:
    status, page = await tenant.call("GET", "/images", params={"q": query})
    assert status == 200
    return [image["id"] for image in page["items"]]


@pytest.mark.parametrize("kind", FORMATS)
async def test_an_image_is_found_by_its_own_texts(tenant: Tenant, tmp_path: Path, kind: str) -> None:
    _, other = await tenant.upload(described(kind), "other")
    _, accepted = await tenant.upload(described(kind, PACKET, iim((101, "Polska"))), f"a.{kind}")
    assert await found(tenant, "bateaux") == []
    for image in (other, accepted):
        await read_exif(tenant.api, tenant, image, tmp_path)
    for query in ("bateaux", "東京", "タワー", "coeur", "lodz", "ann exam", "vieux port nuit"):
        assert await found(tenant, query) == [accepted["id"]], query
    _, image = await tenant.call("GET", f"/images/{accepted['id']}")
    iptc = image["exif"]["iptc"]
    assert (iptc["title"], iptc["keywords"], iptc["rating"]) == ("Vieux-Port", ["cœur", "東京タワー"], 5)
    assert iptc["place"]["country"] == ("Polska" if kind in ("jpeg", "png", "tiff") else None)
    assert (await tenant.call("GET", f"/images/{other['id']}"))[1]["exif"]["iptc"] is None


async def test_the_texts_of_all_stages_are_found_together(tenant: Tenant, tmp_path: Path) -> None:
    _, accepted = await tenant.upload(described("jpeg", PACKET), "a.jpg")
    await read_exif(tenant.api, tenant, accepted, tmp_path)
    await tenant.call("PATCH", f"/images/{accepted['id']}", json={"description": "私は京都に住んでいます"})
    assert await found(tenant, "京都 住んで bateaux a.jpg") == [accepted["id"]]
