"""Full text beside row-level security at full size: the index is used, and finds only the client's rows.

PostgreSQL doesn't use an index for `@@` on a table under row-level security, because the operator isn't leakproof; that
is why `image_search` has none (`database.search`), and the test ends with what would be otherwise.
"""

import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from imago.core.clients.model import Client
from imago.core.images.lists.filters import ImageFilter
from imago.db.engine import Database, RowScope
from tests.faults.figures import Figures
from tests.support.reads import list_images
from tests.support.samples import make_client

ROWS = 400_000

# Every second image belongs to `mine`. All have `harbour`, 1 % `gull`, ten of `mine` have `albatross`; `lighthouse` is
# in all images of the other client and in ten of `mine`. PostgreSQL estimates a prefix by the most common words, and
# only if it knows a hundred of them, as in any real archive: hence streets and shops.
OWNER_OF_N = "CASE WHEN n % 2 = 0 THEN CAST(:mine AS bigint) ELSE :other END"
EVERY_N = "generate_series(1, CAST(:rows AS int)) AS n"
FILL = (
    f"""
    INSERT INTO images (id, uuid, client_id, original_name, content_type, format, width, height, frames, size_bytes,
                        sha256, object_key, status, created_at)
    SELECT n, gen_random_uuid(), {OWNER_OF_N}, 'photo ' || n, 'image/jpeg', 'jpeg', 640, 480, 1, 1000,
           md5(n::text) || md5(n::text), n::text, 'done', now()
    FROM {EVERY_N}
    """,
    f"""
    INSERT INTO image_search (image_id, client_id, document)
    SELECT n, {OWNER_OF_N}, to_tsvector('simple', 'photo ' || n || ' harbour'
           || ' street' || n % 211 || ' shop' || n % 307 || ' '
           || CASE WHEN n % 200 < 2 THEN 'gull ' ELSE '' END
           || CASE WHEN n % (CAST(:rows AS int) / 10) = 0 THEN 'albatross ' ELSE '' END
           || CASE WHEN n % 2 = 1 OR n % (CAST(:rows AS int) / 10) = 0 THEN 'lighthouse' ELSE '' END)
    FROM {EVERY_N}
    """,
)

UNDER_ROW_SECURITY = (
    "ALTER TABLE image_search ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY own ON image_search USING (client_id = (SELECT current_setting('imago.client', true))::bigint)",
)

pytestmark = pytest.mark.parametrize("db", ["postgresql"], indirect=True)


@asynccontextmanager
async def unbound(server: str, db: Database) -> AsyncIterator[AsyncConnection]:
    """Yield a connection to a database as the server's superuser."""
    engine = create_async_engine(f"{server}/{db.url.database}", isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


async def fill(connection: AsyncConnection, mine: Client, other: Client) -> None:
    """Fill the tables as a restored archive: rows first, then the indexes as the migrations made them."""
    rows = await connection.execute(
        sa.text(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN ('images', 'image_search')"
            " AND indexname LIKE 'ix_%'"
        )
    )
    indexes: dict[str, str] = {row.indexname: row.indexdef for row in rows}
    assert "ix_image_search_document" in indexes
    # Without the foreign keys' triggers, which run for each row.
    for statement in ("SET session_replication_role = replica", "SET maintenance_work_mem = '256MB'"):
        await connection.execute(sa.text(statement))
    for name in indexes:
        await connection.execute(sa.text(f"DROP INDEX {name}"))
    for statement in FILL:
        await connection.execute(sa.text(statement), {"mine": mine.id, "other": other.id, "rows": ROWS})
    for definition in indexes.values():
        await connection.execute(sa.text(definition))
    await connection.execute(sa.text("ANALYZE"))


async def found(db: Database, client: Client, word: str) -> list[int]:
    """Return the first images that a client finds with a word."""
    return [image.id for image in (await list_images(db, client.id, ImageFilter(q=word), limit=50)).items]


async def plan(db: Database, client: Client, word: str) -> list[dict[str, Any]]:
    """Return the nodes of PostgreSQL's plan for the statement that finds images with a word."""
    caught: list[tuple[str, tuple[Any, ...]]] = []

    def catch(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "image_search" in statement:
            caught.append((statement, parameters))

    sa.event.listen(db.engine.sync_engine, "before_cursor_execute", catch)
    await found(db, client, word)
    sa.event.remove(db.engine.sync_engine, "before_cursor_execute", catch)
    assert len(caught) == 1, "the search is no longer one statement"
    statement, parameters = caught[0]
    async with db.read(RowScope(client.id)) as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        explained = await driver.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters)
    nodes: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = [explained[0]["Plan"]]
    while rest:
        nodes.append(rest.pop())
        rest += nodes[-1].get("Plans", [])
    return nodes


def used(nodes: list[dict[str, Any]]) -> set[str]:
    """Return the indexes that a plan uses."""
    return {node["Index Name"] for node in nodes if "Index Name" in node}


async def p50(db: Database, client: Client, word: str) -> float:
    """Return the median time of a search in milliseconds."""
    times = []
    for _ in range(9):
        began = time.perf_counter()
        await found(db, client, word)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


@pytest.mark.timeout(600)
async def test_full_text_uses_its_index_among_400_000_rows_and_finds_only_the_clients_rows(
    db: Database, postgres: str, figures: Figures
) -> None:
    mine, other = await make_client(db, "mine"), await make_client(db, "other")
    began = time.monotonic()
    async with unbound(postgres, db) as connection:
        await fill(connection, mine, other)
    figures.note("full text: rows of two clients", ROWS)
    figures.note("full text: inserted in (s)", time.monotonic() - began)

    every_tenth = [number * ROWS // 10 for number in range(10, 0, -1)]
    for word in ("albatross", "lighthouse"):
        assert await found(db, mine, word) == every_tenth, word
    for word in ("harbour", "gull"):
        seen = await found(db, mine, word)
        assert len(seen) == 50, word
        assert {number % 2 for number in seen} == {0}, "another client's image was found"
    assert await found(db, other, "albatross") == []

    nodes = await plan(db, mine, "albatross")
    figures.hold("full text: a rare word found by its index", "ix_image_search_document" in used(nodes), "==", 1)
    scanned = [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"]
    # The other tables are empty here, and read sequentially.
    scanned = [name for name in scanned if name in ("images", "image_search")]
    figures.hold("full text: sequential scans for a rare word", len(scanned), "==", 0)
    for word, what in {
        "albatross": "a rare word",
        "gull": "a word in 1 of 100",
        "harbour": "a word in every image",
        "lighthouse": "a word in every image but one's own",
    }.items():
        figures.note(f"full text: {what}, p50 (ms)", await p50(db, mine, word))

    async with unbound(postgres, db) as connection:
        for statement in UNDER_ROW_SECURITY:
            await connection.execute(sa.text(statement))
    otherwise = used(await plan(db, mine, "albatross"))
    assert "ix_image_search_document" not in otherwise, (
        "row-level security no longer prevents the index: enable it on the table"
    )
