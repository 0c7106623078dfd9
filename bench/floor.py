"""The minimal cost of an upload or a read: `python -m bench.floor`, only aiohttp and one SQL statement.

An upload reads the form's file, hashes it, writes it durably in one thread call, and commits one INSERT before it
responds. A read is one SELECT from Imago's tables, with the rows as JSON. There is no authentication, limit, header,
quota, stage, message, metric or log. Everything beyond that is the cost of a system's features.
"""

import asyncio
import hashlib
import os
from pathlib import Path
from uuid import uuid4

import asyncpg
import orjson
import uvloop
from aiohttp import BodyPartReader, web

_CHUNK = 256 * 1024

_IMAGES = """SELECT i.*, (SELECT json_object_agg(r.stage, r.data) FROM stage_results r
    WHERE r.image_id = i.id) AS results FROM images i """
_ONE = _IMAGES + "WHERE i.id = $1"
_PAGE = _IMAGES + "WHERE i.client_id = $1 ORDER BY i.id DESC LIMIT $2"


def application(database: str, folder: Path) -> web.Application:
    """Build the application."""
    app = web.Application(client_max_size=2**30)
    pool: list[asyncpg.Pool] = []

    async def connected(_app: web.Application) -> None:
        pool.append(await asyncpg.create_pool(database, min_size=20, max_size=20))
        await pool[0].execute("CREATE TABLE IF NOT EXISTS floor (id bigserial PRIMARY KEY, name uuid, sha256 text)")

    async def upload(request: web.Request) -> web.Response:
        form = await request.multipart()
        part = await form.next()
        assert isinstance(part, BodyPartReader)
        digest, chunks = hashlib.sha256(), []
        while chunk := await part.read_chunk(_CHUNK):
            digest.update(chunk)
            chunks.append(bytes(chunk))
        name = uuid4()
        await asyncio.to_thread(_write, folder / name.hex, chunks)
        number = await pool[0].fetchval(
            "INSERT INTO floor (name, sha256) VALUES ($1, $2) RETURNING id", name, digest.hexdigest()
        )
        return web.json_response({"id": number}, status=201)

    async def one(request: web.Request) -> web.Response:
        return _json(await pool[0].fetch(_ONE, int(request.match_info["id"])))

    async def page(request: web.Request) -> web.Response:
        return _json(await pool[0].fetch(_PAGE, int(request.query["client"]), int(request.query["limit"])))

    async def ready(_request: web.Request) -> web.Response:
        return web.Response()

    app.on_startup.append(connected)
    app.router.add_post("/images/upload", upload)
    app.router.add_get("/images/{id}", one)
    app.router.add_get("/images", page)
    app.router.add_get("/health/ready", ready)
    return app


def _json(rows: list[asyncpg.Record]) -> web.Response:
    body = orjson.dumps([dict(row) for row in rows], default=str)
    return web.Response(body=body, content_type="application/json")


def _write(path: Path, chunks: list[bytes]) -> None:
    with path.open("xb") as file:
        file.writelines(chunks)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


if __name__ == "__main__":
    web.run_app(
        application(os.environ["FLOOR_DATABASE"], Path(os.environ["FLOOR_FOLDER"])),
        host="127.0.0.1",
        port=int(os.environ["FLOOR_PORT"]),
        loop=uvloop.new_event_loop(),
        print=None,
        access_log=None,
    )
