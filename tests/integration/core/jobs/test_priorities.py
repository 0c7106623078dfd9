"""The priority of runs, and the columns that the previous release does not write."""

import sqlalchemy as sa

from imago.core.images.changes import start_runs
from imago.core.images.locks import lock_image
from imago.core.jobs.stages import Priority, Stage
from imago.core.times import utc_now
from imago.db.engine import Database
from imago.db.tables import clients, image_stages
from tests.support.samples import make_client, make_image


async def test_runs_of_an_upload_are_live_and_ready_from_then_on(db: Database) -> None:
    before = utc_now()
    await make_image(db, await make_client(db))
    async with db.read() as connection:
        rows = (await connection.execute(sa.select(image_stages.c.priority, image_stages.c.ready_at))).all()
    assert {row.priority for row in rows} == {Priority.LIVE}
    assert all(before <= row.ready_at <= utc_now() for row in rows)


async def test_a_new_run_has_the_priority_that_it_is_started_with(db: Database) -> None:
    image = await make_image(db, await make_client(db))
    async with db.write() as connection:
        locked = await lock_image(connection, image.id)
        assert locked
        await start_runs(connection, locked[0], [Stage.OCR], headers={}, priority=Priority.BACKGROUND)
        await start_runs(connection, locked[0], [Stage.EXIF], headers={})
        rows = (await connection.execute(sa.select(image_stages.c.stage, image_stages.c.priority))).all()
    assert dict(map(tuple, rows)) == {
        Stage.THUMBNAIL: "live",
        Stage.EXIF: "live",
        Stage.OCR: "background",
        Stage.VISION: "live",
    }


async def test_a_row_without_the_new_columns_is_live_and_ready(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    columns = [column.name for column in image_stages.c if column.name not in ("priority", "ready_at")]
    of_image = image_stages.c.image_id == image.id
    async with db.write() as connection:
        rows = [dict(row) for row in (await connection.execute(sa.select(image_stages).where(of_image))).mappings()]
        await connection.execute(sa.delete(image_stages).where(of_image))
        await connection.execute(sa.insert(image_stages), [{name: row[name] for name in columns} for row in rows])
        found = (await connection.execute(sa.select(image_stages).where(of_image))).all()
        weight, limit = (await connection.execute(sa.select(clients.c.weight, clients.c.concurrency))).one()
    assert all(row.priority == Priority.LIVE and row.ready_at.year == 1970 for row in found)
    assert (weight, limit) == (1, None)
