"""Which images a page of a filtered list shows: keyset pages over descending ids, which grow with time.

Each way here reads about as many rows as the page has, whatever the number of images and the depth of the page; the
planner, left with all conditions at once, guesses how soon enough rows will be met and is far off where those with
a tag or a camera are the oldest.
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from imago.core.images.full_text import matching_ids, newest_matching
from imago.core.images.tags import normalize_tag
from imago.core.images.text_folding import fold
from imago.core.jobs.stages import ImageStatus
from imago.db.tables import image_tags, images


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
    on_postgres = dialect != "sqlite"
    if on_postgres and wanted == ImageFilter(q=wanted.q) and wanted.q is not None:
        newest = newest_matching(client_id, wanted.q, limit=limit, before=before)
        return newest if newest is not None else sa.select(images.c.id).where(sa.false())
    if wanted.q is not None:
        found = matching_ids(dialect, client_id, wanted.q)
        conditions.append(sa.false() if found is None else images.c.id.in_(found))
    if wanted.camera is not None:
        cameras = _cameras(client_id, wanted.camera)
        if on_postgres and wanted.tag is None and wanted.q is None:
            return _newest_by_camera(client_id, cameras, conditions, limit=limit, before=before)
        conditions.append(images.c.camera.in_(sa.select(cameras.c.camera)))
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


def _cameras(client_id: int, part: str) -> sa.Subquery:
    """Return the client's cameras that have a text in their names.

    They are few, and found by skipping through their index from one to the next; no index knows parts of names.
    """
    mine = sa.select(sa.func.min(images.c.camera).label("camera")).where(images.c.client_id == client_id)
    every = mine.cte("every_camera", recursive=True)
    following = mine.where(images.c.camera > every.c.camera).correlate(every).scalar_subquery()
    every = every.union_all(sa.select(following).where(every.c.camera.is_not(None)))
    folded = fold(part)
    # Nothing but punctuation is in no camera's name, though it is empty once folded.
    named = every.c.camera.contains(folded, autoescape=True) if folded else sa.false()
    return sa.select(every.c.camera).where(named).subquery("cameras")


def _newest_by_camera(
    client_id: int,
    cameras: sa.Subquery,
    conditions: list[sa.ColumnElement[bool]],
    *,
    limit: int,
    before: int | None,
) -> sa.Select[tuple[int]]:
    """Return a page of ids out of the newest of each camera."""
    newest = sa.select(images.c.id).where(
        images.c.client_id == client_id, images.c.camera == cameras.c.camera, *conditions
    )
    if before is not None:
        newest = newest.where(images.c.id < before)
    of_each = newest.order_by(images.c.id.desc()).limit(limit).correlate(cameras).lateral("of_each")
    return (
        sa.select(of_each.c.id).select_from(cameras.join(of_each, sa.true())).order_by(of_each.c.id.desc()).limit(limit)
    )


def _conditions(wanted: ImageFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.status is not None:
        conditions.append(images.c.status == wanted.status)
    if wanted.taken_from is not None:
        conditions.append(images.c.taken_at >= wanted.taken_from)
    if wanted.taken_to is not None:
        conditions.append(images.c.taken_at <= wanted.taken_to)
    if wanted.has_gps is not None:
        # As it stands: an index of those with a place isn't used for `has_gps IS true`.
        conditions.append(images.c.has_gps if wanted.has_gps else ~images.c.has_gps)
    if wanted.sha256 is not None:
        conditions.append(images.c.sha256 == wanted.sha256)
    if wanted.created_from is not None:
        conditions.append(images.c.created_at >= wanted.created_from)
    if wanted.created_to is not None:
        conditions.append(images.c.created_at <= wanted.created_to)
    return conditions
