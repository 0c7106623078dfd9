"""Queries for the images and stages that a selection matches.

They read ranges of ids, so that no query is slow, however many images there are.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.clients.queries import client_from
from imago.core.errors import Unprocessable
from imago.core.images.tags import normalize_tag
from imago.core.jobs.stages import OPEN_STATUSES, OPTIONAL_STAGES, Stage, requested_stages
from imago.core.reprocessing.model import Selection
from imago.db.engine import SYSTEM, Database
from imago.db.tables import clients, image_stages, image_tags, images, stage_results

# The ids of one query; with all filters, it takes about 0.2 s if every id is an image.
WINDOW = 20_000

# Where a result says what made it.
_MADE_BY = {
    Stage.OCR: stage_results.c.data["chosen"]["engine"].as_string(),
    Stage.VISION: stage_results.c.data["model_used"].as_string(),
}


@dataclass(frozen=True)
class Matching:
    """A selection with the condition on `images.client_id` of each of its stages."""

    selection: Selection
    since: datetime
    clients: Mapping[Stage, sa.ColumnElement[bool]]

    def stage(self, stage: Stage) -> sa.ColumnElement[bool]:
        """Return the condition that a stage of an image is to run again."""
        of_stage = sa.and_(image_stages.c.image_id == images.c.id, image_stages.c.stage == stage)
        is_open = image_stages.c.status.in_([str(status) for status in OPEN_STATUSES])
        is_new = sa.func.coalesce(image_stages.c.done_at >= self.since, sa.false())
        if stage in OPTIONAL_STAGES:
            # Images that were uploaded before the server had the stage have no row of it.
            stale = ~sa.exists().where(of_stage, sa.or_(is_open, is_new))
        else:
            stale = sa.exists().where(of_stage, ~is_open, ~is_new)
        made_by = {Stage.OCR: self.selection.engine_not, Stage.VISION: self.selection.model_not}.get(stage)
        other = sa.true() if made_by is None else ~_result_by(stage, made_by)
        return sa.and_(self.clients[stage], stale, other)

    @property
    def image(self) -> sa.ColumnElement[bool]:
        """The condition that an image matches: the filters, and any stage."""
        stages = [self.stage(stage) for stage in self.selection.stages]
        return sa.and_(*_filters(self.selection), sa.or_(sa.false(), *stages))


async def require_clients(db: Database, selection: Selection) -> None:
    """Raise Unprocessable for a client that does not exist."""
    async with db.read(SYSTEM) as connection:
        found = await connection.scalars(sa.select(clients.c.uuid).where(clients.c.uuid.in_(selection.clients)))
    missing = set(selection.clients) - set(found)
    if missing:
        text = f"No such client: `{min(map(str, missing))}`."
        raise Unprocessable(text, extra={"errors": {"selection": {"clients": [text]}}})


async def matching(db: Database, selection: Selection, *, since: datetime) -> Matching:
    """Return the conditions of a selection: a stage runs for active clients that have it in their pipeline."""
    query = sa.select(clients)
    if selection.clients:
        query = query.where(clients.c.uuid.in_(selection.clients))
    async with db.read(SYSTEM) as connection:
        rows = (await connection.execute(query)).all()
    active = {
        row.id: set(requested_stages(client_from(row).pipeline.stages))
        for row in rows
        if row.active and row.erase_requested_at is None
    }
    every = {row.id for row in rows}
    return Matching(
        selection,
        since,
        {
            stage: _of_clients(
                {number for number, stages in active.items() if stage in stages}, every, all_named=not selection.clients
            )
            for stage in selection.stages
        },
    )


async def id_range(db: Database) -> tuple[int, int]:
    """Return the ids below the first image and of the last; equal without images."""
    async with db.read(SYSTEM) as connection:
        first, last = (await connection.execute(sa.select(sa.func.min(images.c.id), sa.func.max(images.c.id)))).one()
    return (0, 0) if first is None else (first - 1, last)


async def count_matching(db: Database, wanted: Matching, *, after: int, up_to: int) -> int:
    """Return the number of images with ids in (after, up_to] that match."""
    total = 0
    for start in range(after, up_to, WINDOW):
        query = (
            sa.select(sa.func.count())
            .select_from(images)
            .where(images.c.id > start, images.c.id <= min(start + WINDOW, up_to), wanted.image)
        )
        async with db.read(SYSTEM) as connection:
            total += int(await connection.scalar(query) or 0)
    return total


async def next_matching(
    db: Database, wanted: Matching, *, after: int, up_to: int, limit: int, windows: int
) -> tuple[list[int], int]:
    """Return the first ids in (after, up_to] that match, and the id up to which there are no others.

    At most `windows` ranges of `WINDOW` ids are read.
    """
    found: list[int] = []
    for start in range(after, min(up_to, after + windows * WINDOW), WINDOW):
        end = min(start + WINDOW, up_to)
        query = sa.select(images.c.id).where(images.c.id > start, images.c.id <= end, wanted.image)
        async with db.read(SYSTEM) as connection:
            found += await connection.scalars(query.order_by(images.c.id).limit(limit - len(found)))
        if len(found) == limit:
            return found, found[-1]
        after = end
    return found, after


async def stages_to_run(connection: AsyncConnection, wanted: Matching, image_id: int) -> list[Stage]:
    """Return the stages of a locked image that are to run again, if it still matches."""
    flags = [wanted.stage(stage).label(stage) for stage in wanted.selection.stages]
    if not flags:
        return []
    query = sa.select(*flags).where(images.c.id == image_id, *_filters(wanted.selection))
    row = (await connection.execute(query)).one_or_none()
    return [] if row is None else [stage for stage in wanted.selection.stages if row._mapping[stage]]


def _of_clients(wanted: Collection[int], every: Collection[int], *, all_named: bool) -> sa.ColumnElement[bool]:
    """Return the condition on the client; if all clients are selected, by the few that are not wanted."""
    if all_named:
        return images.c.client_id.not_in(sorted(set(every) - set(wanted)))
    return images.c.client_id.in_(sorted(wanted))


def _result_by(stage: Stage, name: str) -> sa.ColumnElement[bool]:
    return sa.exists().where(
        stage_results.c.image_id == images.c.id, stage_results.c.stage == stage, _MADE_BY[stage] == name
    )


def _filters(selection: Selection) -> list[sa.ColumnElement[bool]]:
    bounds = [
        (selection.created_from, images.c.created_at.__ge__),
        (selection.created_to, images.c.created_at.__le__),
        (selection.taken_from, images.c.taken_at.__ge__),
        (selection.taken_to, images.c.taken_at.__le__),
        (selection.status, images.c.status.__eq__),
    ]
    conditions = [compare(value) for value, compare in bounds if value is not None]
    if selection.tag is not None:
        conditions.append(
            sa.exists().where(
                image_tags.c.image_id == images.c.id,
                image_tags.c.client_id == images.c.client_id,
                image_tags.c.tag == normalize_tag(selection.tag),
            )
        )
    return conditions
