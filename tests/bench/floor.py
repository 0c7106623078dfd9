"""The least that an upload can cost: `python -m tests.bench.floor`, aiohttp alone with one row in one transaction.

It takes the form's file, hashes it, writes it durably in one hop to a thread, and commits one INSERT before it answers:
no authentication, limits, header, quota, stages, messages, metrics or logs. What both systems do beyond that is theirs.
"""

import asyncio
import hashlib
import os
from pathlib import Path
from uuid import uuid4

import asyncpg
import uvloop
from aiohttp import BodyPartReader, web

_CHUNK = 256 * 1024


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

    async def ready(_request: web.Request) -> web.Response:
        return web.Response()

    app.on_startup.append(connected)
    app.router.add_post("/images/upload", upload)
    app.router.add_get("/health/ready", ready)
    return app


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
