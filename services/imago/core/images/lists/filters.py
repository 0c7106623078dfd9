"""Queries for pages of a filtered list: keyset pagination by descending id.

Each query reads about as many rows as the page has, regardless of the number of images and the depth of the page. Given
all conditions in one simple query, PostgreSQL's planner misjudges how soon it finds enough rows, by far if the images
with a tag or a camera are the oldest ones.
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from imago.core.images.lists.places import ANYWHERE, PlaceFilter, place_conditions
from imago.core.images.search.full_text import WordMatch, matching_ids, newest_matching
from imago.core.images.search.text_folding import fold
from imago.core.images.tags import normalize_tag
from imago.core.jobs.stages import ImageStatus
from imago.db.tables import image_places, image_tags, images

# More than any photographer has. Made-up names must not make a request of their client slow, nor those of others.
MAX_CAMERAS = 1000


@dataclass(frozen=True)
class ImageFilter:
    """The filters of a list; None means no filter. `taken_*` are camera-local times; all bounds are inclusive.

    An image must have all of the `tags`.
    """

    status: ImageStatus | None = None
    tags: tuple[str, ...] = ()
    q: str | None = None
    camera: str | None = None
    taken_from: datetime | None = None
    taken_to: datetime | None = None
    has_gps: bool | None = None
    sha256: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    moderation_min: float | None = None
    moderation_max: float | None = None
    where: PlaceFilter = ANYWHERE


def page_ids(
    dialect: str,
    client_id: int,
    filters: ImageFilter,
    *,
    limit: int,
    before: int | None,
    words: WordMatch = WordMatch.ANY,
) -> sa.Select[tuple[int]]:
    """Return the query for the ids of a page: a client's images that match all filters, newest first, below `before`.

    Its only column is `id`. `words` says how the words of `q` match.
    """
    if filters == ImageFilter(where=filters.where) and filters.where != ANYWHERE:
        return _newest_places(client_id, filters.where, limit=limit, before=before)
    conditions = [*_conditions(client_id, filters), *(_tagged(client_id, tag) for tag in filters.tags[1:])]
    on_postgres = dialect != "sqlite"
    if on_postgres and filters == ImageFilter(q=filters.q) and filters.q is not None:
        newest = newest_matching(client_id, filters.q, words, limit=limit, before=before)
        return newest if newest is not None else sa.select(images.c.id).where(sa.false())
    if filters.q is not None:
        found = matching_ids(dialect, client_id, filters.q, words)
        conditions.append(sa.false() if found is None else images.c.id.in_(found))
    if filters.camera is not None:
        cameras = _cameras(client_id, filters.camera)
        if on_postgres and not filters.tags and filters.q is None:
            return _newest_by_camera(client_id, cameras, conditions, limit=limit, before=before)
        conditions.append(images.c.camera.in_(sa.select(cameras.c.camera)))
    query = sa.select(images.c.id).where(images.c.client_id == client_id, *conditions)
    order = images.c.id
    if filters.tags:
        order = image_tags.c.image_id
        tagged = (image_tags.c.client_id == client_id, image_tags.c.tag == normalize_tag(filters.tags[0]))
        if conditions:
            query = query.join(image_tags, image_tags.c.image_id == images.c.id).where(*tagged)
        else:
            # The index of tags has this order.
            query = sa.select(order.label("id")).where(*tagged)
    if before is not None:
        query = query.where(order < before)
    return query.order_by(order.desc()).limit(limit)


def matching(dialect: str, client_id: int, filters: ImageFilter) -> list[sa.ColumnElement[bool]]:
    """Return the conditions on `images` for all filters, for a query with another order."""
    conditions = [images.c.client_id == client_id, *all_conditions(client_id, filters)]
    if filters.q is not None:
        found = matching_ids(dialect, client_id, filters.q, WordMatch.ANY)
        conditions.append(sa.false() if found is None else images.c.id.in_(found))
    return conditions


def all_conditions(client_id: int, filters: ImageFilter) -> list[sa.ColumnElement[bool]]:
    """Return the conditions on `images` of all filters but `q`."""
    conditions = [*_conditions(client_id, filters), *(_tagged(client_id, tag) for tag in filters.tags)]
    if filters.camera is not None:
        conditions.append(images.c.camera.in_(sa.select(_cameras(client_id, filters.camera).c.camera)))
    return conditions


def _newest_places(client_id: int, where: PlaceFilter, *, limit: int, before: int | None) -> sa.Select[tuple[int]]:
    """Return a page of ids from the places alone, which are fewer and narrower than the images."""
    order = image_places.c.image_id
    query = sa.select(order.label("id")).where(*place_conditions(client_id, where))
    if before is not None:
        query = query.where(order < before)
    return query.order_by(order.desc()).limit(limit)


def _tagged(client_id: int, tag: str) -> sa.ColumnElement[bool]:
    other = image_tags.alias()
    return sa.exists().where(
        other.c.image_id == images.c.id, other.c.client_id == client_id, other.c.tag == normalize_tag(tag)
    )


def _cameras(client_id: int, part: str) -> sa.Subquery:
    """Return the client's cameras whose name contains a text, among its first `MAX_CAMERAS` by name.

    No index supports a search for parts of names, but a client has few cameras: the recursive query finds the distinct
    names by skipping through the index (https://wiki.postgresql.org/wiki/Loose_indexscan).
    """
    mine = sa.select(sa.func.min(images.c.camera)).where(images.c.client_id == client_id)
    every = sa.select(mine.scalar_subquery().label("camera"), sa.literal(1).label("number")).cte(
        "every_camera", recursive=True
    )
    following = mine.where(images.c.camera > every.c.camera).correlate(every).scalar_subquery()
    every = every.union_all(
        sa.select(following, every.c.number + 1).where(every.c.camera.is_not(None), every.c.number < MAX_CAMERAS)
    )
    folded = fold(part)
    # Punctuation folds to an empty text, which every name would contain.
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
    """Return a page of ids from the newest images of each camera."""
    newest = sa.select(images.c.id).where(
        images.c.client_id == client_id, images.c.camera == cameras.c.camera, *conditions
    )
    if before is not None:
        newest = newest.where(images.c.id < before)
    of_each = newest.order_by(images.c.id.desc()).limit(limit).correlate(cameras).lateral("of_each")
    return (
        sa.select(of_each.c.id).select_from(cameras.join(of_each, sa.true())).order_by(of_each.c.id.desc()).limit(limit)
    )


def _conditions(client_id: int, filters: ImageFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if filters.status is not None:
        conditions.append(images.c.status == filters.status)
    if filters.taken_from is not None:
        conditions.append(images.c.taken_at >= filters.taken_from)
    if filters.taken_to is not None:
        conditions.append(images.c.taken_at <= filters.taken_to)
    if filters.has_gps is not None:
        # Not `has_gps IS true`, for which PostgreSQL doesn't use the partial index.
        conditions.append(images.c.has_gps if filters.has_gps else ~images.c.has_gps)
    if filters.sha256 is not None:
        conditions.append(images.c.sha256 == filters.sha256)
    if filters.created_from is not None:
        conditions.append(images.c.created_at >= filters.created_from)
    if filters.moderation_min is not None:
        conditions.append(images.c.moderation_score >= filters.moderation_min)
    if filters.moderation_max is not None:
        conditions.append(images.c.moderation_score <= filters.moderation_max)
    if filters.created_to is not None:
        conditions.append(images.c.created_at <= filters.created_to)
    if filters.where != ANYWHERE:
        there = sa.select(image_places.c.image_id).where(*place_conditions(client_id, filters.where))
        conditions.append(images.c.id.in_(there))
    return conditions
