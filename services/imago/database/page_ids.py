"""Which images a page of a filtered list shows: keyset pages over descending ids, which grow with time.

Each way here reads about as many rows as the page has, whatever the number of images and the depth of the page; the
planner, left with all conditions at once, guesses how soon enough rows will be met and is far off where those with
a tag or a camera are the oldest.
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from imago.database.search import matching_ids
from imago.database.tables import image_tags, images
from imago.domain.search import fold
from imago.domain.stages import ImageStatus
from imago.domain.tags import normalize_tag


@dataclass(frozen=True)
class ImageFilter:
    """What a list is narrowed to; None doesn't narrow. `taken_*` are camera-local, all bounds inclusive."""

    status: ImageStatus | None = None
    tag: str | None = None
    q: str | None = None
    camera: str | None = None
    taken_from: datetime | None = None
    taken_to: datetime | None = None
    has_gps: bool | None = None
    sha256: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None


def page_of_ids(
    dialect: str, client_id: int, wanted: ImageFilter, *, limit: int, before: int | None
) -> sa.Select[tuple[int]]:
    """Return the query of the ids of a page: a client's images that meet all conditions, newest first, below `before`.

    Its one column is called `id`.
    """
    conditions = _conditions(wanted)
    if wanted.q is not None:
        found = matching_ids(dialect, client_id, wanted.q)
        conditions.append(sa.false() if found is None else images.c.id.in_(found))
    query = sa.select(images.c.id).where(images.c.client_id == client_id, *conditions)
    order = images.c.id
    if wanted.tag is not None:
        order = image_tags.c.image_id
        tagged = (image_tags.c.client_id == client_id, image_tags.c.tag == normalize_tag(wanted.tag))
        if conditions:
            query = query.join(image_tags, image_tags.c.image_id == images.c.id).where(*tagged)
        else:
            # The index of tags is in this very order.
            query = sa.select(order.label("id")).where(*tagged)
    if before is not None:
        query = query.where(order < before)
    return query.order_by(order.desc()).limit(limit)


def _conditions(wanted: ImageFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.status is not None:
        conditions.append(images.c.status == wanted.status)
    if wanted.camera is not None:
        part = fold(wanted.camera)
        # Nothing but punctuation is in no camera's name, though it is empty once folded.
        conditions.append(images.c.camera.contains(part, autoescape=True) if part else sa.false())
    if wanted.taken_from is not None:
        conditions.append(images.c.taken_at >= wanted.taken_from)
    if wanted.taken_to is not None:
        conditions.append(images.c.taken_at <= wanted.taken_to)
    if wanted.has_gps is not None:
        conditions.append(images.c.has_gps.is_(wanted.has_gps))
    if wanted.sha256 is not None:
        conditions.append(images.c.sha256 == wanted.sha256)
    if wanted.created_from is not None:
        conditions.append(images.c.created_at >= wanted.created_from)
    if wanted.created_to is not None:
        conditions.append(images.c.created_at <= wanted.created_to)
    return conditions
