"""Rows of images without files, as many as a list is to be measured over; made by the databases themselves."""

from dataclasses import dataclass

import asyncpg
from sqlalchemy.ext.asyncio import create_async_engine

from bench.systems import Imago, Peer, execute

_EXIF = (
    '{"camera": {"make": "Canon", "model": "EOS 5D", "lens": null, "iso": 100, "aperture": "f/2.8",'
    ' "shutter_speed": "1/250", "focal_length": "50mm", "taken_at": "2024-05-01T12:00:00"}, "gps": {"latitude": 48.85,'
    ' "longitude": 2.35, "altitude": null, "has_gps": true, "maps_url": null}}'
)
_TEXT = "Total due 1563.40 EUR before the nineteenth of November, payable to the order of the bearer. " * 4
_READING = f'{{"has_text": true, "text": "{_TEXT}", "language": "en", "confidence": 0.9, "engine": "tesserocr"}}'
_OCR = f'{{"chosen": {_READING}, "readings": []}}'
_AI = (
    '{"description": "Likely shows: building.", "tags": ["common", "building"], "confidence": 0.7,'
    ' "model_used": "offline/efficientnet-lite0"}'
)

# Rows have an ordinal `n` from 1, the oldest. Whatever the size: `rare` is on ten rows, spread; `common` on every
# second; `skewed` on the oldest hundredth, which a walk from the newest meets last.
RARE = "n % ({count} / 10) = 0"
COMMON = "n % 2 = 0"
SKEWED = "n <= {count} / 100"


@dataclass(frozen=True)
class Tenant:
    """A client with rows, and the range of their ids."""

    key: str
    client_id: int
    first: int
    last: int


async def seed_imago(system: Imago, client_id: int, key: str, count: int) -> Tenant:
    """Give a client images with results, tags and search documents."""
    database = system.database_url
    rare, skewed = RARE.format(count=count), SKEWED.format(count=count)
    made = f"(SELECT id, row_number() OVER (ORDER BY id) AS n FROM images WHERE client_id = {client_id}) AS made"
    await execute(
        database,
        f"""INSERT INTO images (uuid, client_id, original_name, content_type, format, width, height, frames, size_bytes,
              sha256, object_key, status, created_at, started_at, done_at, camera, taken_at, has_gps)
            SELECT gen_random_uuid(), {client_id}, 'photo-' || n || '.jpg', 'image/jpeg', 'jpeg', 4000, 3000, 1, 900000,
              md5(n::text) || md5('x' || n), 'none/' || n, CASE WHEN {rare} THEN 'partial' ELSE 'done' END,
              now() - interval '1 second' * ({count} - n), now(), now(),
              CASE WHEN {rare} THEN 'rollei 35' WHEN {skewed} THEN 'agfa optima' ELSE 'canon eos 5d' END,
              timestamp '2010-01-01' + interval '1 minute' * n, {rare}
            FROM generate_series(1, {count}) AS n""",
        *(
            f"""INSERT INTO stage_results (image_id, stage, run, client_id, data, created_at)
                SELECT id, '{stage}', 1, {client_id}, '{data}', now() FROM {made}
                WHERE '{stage}' = 'exif' OR n <= 2000 OR n > {count} - 2000
                  OR n BETWEEN {count} / 2 - 2000 AND {count} / 2 OR {rare} OR {skewed}"""
            for stage, data in (("exif", _EXIF), ("ocr", _OCR), ("vision", _AI))
        ),
        f"""INSERT INTO image_tags (image_id, tag, client_id)
            SELECT id, tag, {client_id} FROM {made}, LATERAL (VALUES
              (CASE WHEN {rare} THEN 'rare' END), (CASE WHEN {COMMON} THEN 'common' END),
              (CASE WHEN {skewed} THEN 'skewed' END)) AS tags (tag) WHERE tag IS NOT NULL""",
        f"""INSERT INTO image_search (image_id, client_id, document)
            SELECT id, {client_id}, to_tsvector('simple', 'photo ' || n || ' total due november'
              || CASE WHEN {rare} THEN ' rareword' ELSE '' END || CASE WHEN {COMMON} THEN ' commonword' ELSE '' END
              || CASE WHEN {skewed} THEN ' skewedword' ELSE '' END) FROM {made}""",
    )
    return await _tenant(database, key, client_id)


async def seed_peer(system: Peer, client_id: int, count: int) -> Tenant:
    """Give the peer's client images with results."""
    database = system.database_url
    await execute(
        database,
        f"""INSERT INTO images (uuid, client_id, original_name, content_type, format, width, height, frames, size_bytes,
              sha256, path, thumbnail_path, processing_status, created_at, exif, ocr, ai)
            SELECT gen_random_uuid()::text, {client_id}, 'photo-' || n || '.jpg', 'image/jpeg', 'jpeg', 4000, 3000, 1,
              900000, md5(n::text) || md5('x' || n), 'none', 'none', 'done', now(), '{_EXIF}', '{_READING}', '{_AI}'
            FROM generate_series(1, {count}) AS n""",
    )
    await analyse(system)
    return await _tenant(database, system.key, client_id)


async def analyse(system: Imago | Peer) -> None:
    """Bring the statistics up to date and set the hint bits, as autovacuum would have by and by."""
    engine = create_async_engine(system.database_url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.exec_driver_sql("VACUUM ANALYZE")
    await engine.dispose()


async def _tenant(database: str, key: str, client_id: int) -> Tenant:
    connection = await asyncpg.connect(database.replace("+asyncpg", ""))
    first, last = await connection.fetchrow("SELECT min(id), max(id) FROM images WHERE client_id = $1", client_id)
    await connection.close()
    return Tenant(key, client_id, first, last)
