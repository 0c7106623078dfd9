"""The tags and the search document of an image, derived from its results and its user's description and tags."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.images.lists.countries import country_names
from imago.core.images.results import Iptc, Place
from imago.core.images.search.full_text import upsert_document
from imago.core.images.search.names import names_of_tags, words_of_camera
from imago.core.images.tags import normalize_tags
from imago.core.jobs.stages import Stage
from imago.db.prepared import PreparedStatement
from imago.db.tables import image_tags, images, stage_results

# The beginning of `model_used` in results of the offline provider.
_OFFLINE = "offline/"

_IMAGE_TEXTS = PreparedStatement(
    sa.select(images.c.original_name, images.c.user_description, images.c.user_tags).where(
        images.c.id == sa.bindparam("of_image")
    )
)
_RESULT_TEXTS = PreparedStatement(
    sa.select(stage_results.c.stage, stage_results.c.data)
    .where(
        stage_results.c.image_id == sa.bindparam("of_image"),
        sa.or_(*(stage_results.c.stage == stage for stage in (Stage.EXIF, Stage.OCR, Stage.VISION))),
    )
    .order_by(stage_results.c.run)
)
_DELETE_TAGS = PreparedStatement(sa.delete(image_tags).where(image_tags.c.image_id == sa.bindparam("of_image")))
_INSERT_TAG = PreparedStatement(sa.insert(image_tags), columns=("image_id", "client_id", "tag"))


async def refresh_search_index(connection: AsyncConnection, client_id: int, image_id: int) -> None:
    """Rebuild an image's tags (the model's and the user's) and its search document."""
    image = await _IMAGE_TEXTS.one_or_none(connection, {"of_image": image_id})
    if image is None:
        raise LookupError("the image does not exist")
    results = await _latest_results(connection, image_id)
    exif = results.get(Stage.EXIF, {})
    vision = results.get(Stage.VISION, {})
    user_tags = image.user_tags or ()
    # The text is last: it may be longer than what is indexed.
    parts = (
        *(image.original_name, image.user_description, *names_of_tags(user_tags)),
        *(*_exif_texts(exif), *_vision_texts(vision)),
        results.get(Stage.OCR, {}).get("chosen", {}).get("text"),
    )
    text = "\n".join(part for part in parts if part)
    await upsert_document(connection, client_id, image_id, text)
    await _DELETE_TAGS.execute(connection, {"of_image": image_id})
    tags = normalize_tags([*vision.get("tags", ()), *user_tags])
    await _INSERT_TAG.executemany(
        connection, [{"image_id": image_id, "client_id": client_id, "tag": tag} for tag in tags]
    )


def _exif_texts(exif: dict[str, Any]) -> tuple[str, ...]:
    iptc = exif.get("iptc")
    texts = Iptc.from_json(iptc).texts if iptc else ()
    return (*texts, *_place_texts(exif.get("place")), *words_of_camera(exif.get("camera", {})))


def _vision_texts(vision: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of what was found, in both languages, and a description by a model that writes freely.

    The offline provider makes its descriptions of tags, camera and place, which are indexed already, and of words that
    every description has.
    """
    names = names_of_tags(vision.get("tags", ()))
    if vision.get("model_used", "").startswith(_OFFLINE):
        return names
    return (*names, vision.get("description", ""))


def _place_texts(place: dict[str, Any] | None) -> tuple[str, ...]:
    """Return the names of a place, with that of its country in all languages of search."""
    if not place:
        return ()
    known = Place(**place)
    return tuple(name for name in (known.name, known.admin, *country_names(known.country_code)) if name)


async def _latest_results(connection: AsyncConnection, image_id: int) -> dict[str, dict[str, Any]]:
    return {row.stage: row.data for row in await _RESULT_TEXTS.fetch(connection, {"of_image": image_id})}
