"""The peer's API: `uvicorn bench.peer.app:app`."""

import hashlib
import hmac
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import arq
import orjson
from arq.connections import RedisSettings
from fastapi import Depends, FastAPI, File, Header, HTTPException, Query, Request, Response, UploadFile
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict
from sqlalchemy import func, select, update

from bench.peer import imaging, settings
from bench.peer.tables import Base, Client, Image, Stage, connect

_CHUNK = 256 * 1024
_KEY_SECONDS = 3.0

engine, sessions = connect()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connect, and create the tables and the benchmark's client."""
    settings.STORAGE.mkdir(parents=True, exist_ok=True)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    app.state.jobs = await arq.create_pool(RedisSettings(port=settings.REDIS_PORT))
    app.state.keys = {}
    yield
    await app.state.jobs.aclose()
    await engine.dispose()


app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)


class OrjsonAnswer(Response):
    """A JSON response by orjson, as in Imago."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode the content."""
        return orjson.dumps(content)


class ImageAnswer(BaseModel):
    """The detail of an image."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    uuid: str
    original_name: str
    content_type: str
    format: str
    width: int
    height: int
    frames: int
    size_bytes: int
    sha256: str
    duplicate_of: int | None
    created_at: datetime
    processing_status: str
    exif: dict[str, Any] | None
    ocr: dict[str, Any] | None
    ai: dict[str, Any] | None


class QuotaAnswer(BaseModel):
    """The used part of a quota."""

    storage_used_bytes: int
    storage_limit_bytes: int
    images_used: int
    images_limit: int


class ImagesAnswer(BaseModel):
    """A page of images."""

    items: list[ImageAnswer]
    next_cursor: int | None
    quota: QuotaAnswer


class UploadAnswer(BaseModel):
    """The response to an upload."""

    id: int
    uuid: str
    original_name: str
    status: str
    duplicate_of: int | None
    message: str


@dataclass(frozen=True)
class Caller:
    """The authenticated client, which is cached for some seconds."""

    id: int
    requests_per_minute: int


async def caller(request: Request, x_api_key: Annotated[str | None, Header()] = None) -> Caller:
    """Authenticate the request and count it against the rate limit; raise 401 or 429."""
    if not x_api_key:
        raise HTTPException(401, "unauthenticated")
    digest = hmac.digest(settings.PEPPER, x_api_key.encode(), "sha256")
    known = request.app.state.keys.get(digest)
    if known is None or time.monotonic() - known[0] > _KEY_SECONDS:
        async with sessions() as session:
            row = (
                await session.execute(
                    select(Client.id, Client.requests_per_minute).where(Client.key_digest == digest, Client.active)
                )
            ).one_or_none()
        known = (time.monotonic(), None if row is None else Caller(*row))
        request.app.state.keys[digest] = known
    if known[1] is None:
        raise HTTPException(401, "unauthenticated")
    window = f"rate:{known[1].id}:{int(time.time() // 60)}"
    pipeline = request.app.state.jobs.pipeline(transaction=False)
    count, _ = await pipeline.incr(window).expire(window, 120).execute()
    if count > known[1].requests_per_minute:
        raise HTTPException(429, "rate-limited", {"Retry-After": "60"})
    return known[1]


Authenticated = Annotated[Caller, Depends(caller)]


@dataclass(frozen=True)
class Stored:
    """A file in storage."""

    uuid: str
    path: Path
    thumbnail: Path
    size: int
    thumbnail_size: int
    sha256: str
    header: tuple[str, int, int, int]


def store(source: Any, owner: int) -> Stored:
    """Store an upload durably and create its thumbnail; raise Refused and remove the files if it is invalid."""
    name = str(uuid.uuid4())
    folder = settings.STORAGE / str(owner) / name
    folder.mkdir(parents=True)
    path, thumbnail = folder / "original", folder / "thumbnail"
    try:
        digest, size = hashlib.sha256(), 0
        with path.open("wb") as target:
            while chunk := source.read(_CHUNK):
                size += len(chunk)
                if size > settings.MAX_UPLOAD_BYTES:
                    raise imaging.Refused(413, "too-large")
                digest.update(chunk)
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        if not size:
            raise imaging.Refused(422, "empty-file")
        header = imaging.probe(path)
        thumbnail_size = imaging.thumbnail(path, thumbnail)
        with thumbnail.open("rb") as made:
            os.fsync(made.fileno())
        directory = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except BaseException:
        path.unlink(missing_ok=True)
        thumbnail.unlink(missing_ok=True)
        folder.rmdir()
        raise
    return Stored(name, path, thumbnail, size, thumbnail_size, digest.hexdigest(), header)


@app.post("/images/upload", status_code=201, response_model=UploadAnswer if settings.VALIDATE_ANSWERS else None)
async def upload(request: Request, client: Authenticated, file: Annotated[UploadFile, File()]) -> Any:
    """Accept an upload."""
    try:
        stored = await run_in_threadpool(store, file.file, client.id)
    except imaging.Refused as refused:
        raise HTTPException(refused.status, refused.code) from None
    kind, width, height, frames = stored.header
    async with sessions() as session:
        charged = await session.execute(
            update(Client)
            .where(
                Client.id == client.id,
                Client.storage_used + stored.size <= Client.storage_limit,
                Client.images_used + 1 <= Client.images_limit,
            )
            .values(
                storage_used=Client.storage_used + stored.size + stored.thumbnail_size,
                images_used=Client.images_used + 1,
            )
            .execution_options(synchronize_session=False)
        )
        if charged.rowcount != 1:
            await run_in_threadpool(_discard, stored)
            raise HTTPException(413, "quota-exceeded")
        duplicate_of = await session.scalar(
            select(func.min(Image.id)).where(Image.client_id == client.id, Image.sha256 == stored.sha256)
        )
        image = Image(
            uuid=stored.uuid,
            client_id=client.id,
            original_name=(file.filename or "image")[:255],
            content_type=f"image/{kind}",
            format=kind,
            width=width,
            height=height,
            frames=frames,
            size_bytes=stored.size,
            sha256=stored.sha256,
            duplicate_of=duplicate_of,
            path=str(stored.path),
            thumbnail_path=str(stored.thumbnail),
        )
        session.add(image)
        await session.flush()
        session.add_all([Stage(image_id=image.id, stage=stage) for stage in settings.STAGES])
        await session.commit()
    for stage in settings.STAGES:
        await request.app.state.jobs.enqueue_job("run_stage", image.id, stage, _job_id=f"{image.id}:{stage}")
    answer = {
        "id": image.id,
        "uuid": image.uuid,
        "original_name": image.original_name,
        "status": "pending",
        "duplicate_of": image.duplicate_of,
        "message": "The image is stored and queued for processing.",
    }
    return answer if settings.VALIDATE_ANSWERS else OrjsonAnswer(answer, 201)


@app.get("/images", response_model=ImagesAnswer if settings.VALIDATE_ANSWERS else None)
async def list_images(
    client: Authenticated,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[int | None, Query(gt=0)] = None,
) -> Any:
    """List images, newest first, with keyset pagination."""
    query = select(Image).where(Image.client_id == client.id).order_by(Image.id.desc()).limit(limit + 1)
    if cursor is not None:
        query = query.where(Image.id < cursor)
    async with sessions() as session:
        images = (await session.scalars(query)).all()
        usage = (
            await session.execute(
                select(Client.storage_used, Client.storage_limit, Client.images_used, Client.images_limit).where(
                    Client.id == client.id
                )
            )
        ).one()
    following = images[limit - 1].id if len(images) > limit else None
    quota = dict(zip(QuotaAnswer.model_fields, usage, strict=True))
    if settings.VALIDATE_ANSWERS:
        return {"items": images[:limit], "next_cursor": following, "quota": quota}
    return OrjsonAnswer(
        {"items": [_shape(image) for image in images[:limit]], "next_cursor": following, "quota": quota}
    )


@app.get("/images/{image_id}", response_model=ImageAnswer if settings.VALIDATE_ANSWERS else None)
async def show(client: Authenticated, image_id: int) -> Any:
    """Return an image."""
    image = await _one(client, image_id)
    return image if settings.VALIDATE_ANSWERS else OrjsonAnswer(_shape(image))


@app.get("/images/{image_id}/status")
async def status(client: Authenticated, image_id: int) -> Any:
    """Return the status of an image and its stages."""
    await _one(client, image_id)
    async with sessions() as session:
        stages = (await session.scalars(select(Stage).where(Stage.image_id == image_id))).all()
    states = {stage.stage: {"status": stage.status, "attempts": stage.attempts} for stage in stages}
    ended = all(state["status"] in ("done", "dead") for state in states.values())
    return OrjsonAnswer({"id": image_id, "status": "done" if ended else "processing", "stages": states})


@app.get("/images/{image_id}/thumbnail")
async def show_thumbnail(client: Authenticated, image_id: int) -> Response:
    """Return the thumbnail."""
    image = await _one(client, image_id)
    body = await run_in_threadpool(Path(image.thumbnail_path).read_bytes)
    return Response(body, media_type=f"image/{settings.THUMBNAIL_FORMAT}")


@app.get("/health/ready")
async def ready() -> dict[str, str]:
    """Report that the server accepts requests."""
    return {"status": "ready"}


async def _one(client: Caller, image_id: int) -> Image:
    async with sessions() as session:
        image = await session.scalar(select(Image).where(Image.id == image_id, Image.client_id == client.id))
    if image is None:
        raise HTTPException(404, "not-found")
    return image


def _shape(image: Image) -> dict[str, Any]:
    return {name: getattr(image, name) for name in ImageAnswer.model_fields}


def _discard(stored: Stored) -> None:
    stored.path.unlink(missing_ok=True)
    stored.thumbnail.unlink(missing_ok=True)
