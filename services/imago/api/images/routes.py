"""What a client reads and changes of its images."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from aiohttp import web

from imago.api.answer_schemas import (
    AiAnswer,
    ExifAnswer,
    ImageAnswer,
    ImagesAnswer,
    OcrAnswer,
    StatusAnswer,
    TagsAnswer,
    UrlAnswer,
)
from imago.api.answers import json_answer
from imago.api.auth.permissions import client_of, needs
from imago.api.images import shapes
from imago.api.openapi.decorators import documented, reads_json, reads_query
from imago.api.paging import decode_id, decode_tag, encode_cursor
from imago.api.request_schemas import ImageQuery, PageQuery, ReprocessBody, UserWordsBody, entity_ref
from imago.api.services import DATABASE, IMAGES, OUTBOX_PUBLISHER, SETTINGS, STORE
from imago.core.clients.quotas import quota_json
from imago.core.clients.scopes import Scope
from imago.core.errors import NotFound, NoThumbnail, NotReady, StageDisabled, Unprocessable
from imago.core.images.changes import UNSET, delete_image, reprocess, set_user_metadata
from imago.core.images.filters import ImageFilter
from imago.core.images.queries import ImageRow, StageRow, get_stages, list_tags
from imago.core.jobs.stages import ImageStatus, Stage, StageStatus
from imago.core.times import iso_utc, utc_now
from imago.objects.store import Disposition, UrlRequest
from imago.telemetry.tracing import trace_headers

routes = web.RouteTableDef()

# A thumbnail takes a fraction of a second where workers run.
_THUMBNAIL_RETRY_SECONDS = 2

_EXTENSIONS = {"image/webp": "webp", "image/jpeg": "jpg"}


@routes.get("/images", allow_head=False)
@documented(
    tag="images",
    summary="List images",
    answers={200: (ImagesAnswer, "A page of images, newest first.")},
    problems=(Unprocessable,),
)
@reads_query(ImageQuery)
@needs(Scope.IMAGES_READ)
async def list_(request: web.Request) -> web.Response:
    """Lists the client's images, newest first; every filter that is given must hold."""
    client = client_of(request)
    query: dict[str, Any] = dict(request["querystring"])
    limit, before = query.pop("limit"), decode_id(query.pop("cursor", None))
    if "status" in query:
        query["status"] = ImageStatus(query["status"])
    page = await request.app[IMAGES].page(client.id, ImageFilter(**query), limit=limit, before=before)
    return json_answer(
        {
            "items": [shapes.image_detail(image) for image in page.items],
            "next_cursor": encode_cursor(page.next_before) if page.next_before is not None else None,
            "quota": quota_json(page.usage, client.limits),
        }
    )


@routes.get("/images/tags/all", allow_head=False)
@documented(
    tag="images",
    summary="List tags",
    answers={200: (TagsAnswer, "A page of tags with the number of images that have each, the most frequent first.")},
    problems=(Unprocessable,),
)
@reads_query(PageQuery)
@needs(Scope.IMAGES_READ)
async def tags(request: web.Request) -> web.Response:
    """Lists the tags of the client's images, the model's and people's alike."""
    client = client_of(request)
    query = request["querystring"]
    limit = query["limit"]
    found = await list_tags(request.app[DATABASE], client.id, limit=limit + 1, after=decode_tag(query.get("cursor")))
    shown = found[:limit]
    following = encode_cursor([shown[-1][1], shown[-1][0]]) if len(found) > limit else None
    return json_answer({"items": [{"tag": tag, "count": count} for tag, count in shown], "next_cursor": following})


@routes.get("/images/{id}", allow_head=False)
@documented(tag="images", summary="Show an image", answers={200: (ImageAnswer, "The image.")}, problems=(NotFound,))
@needs(Scope.IMAGES_READ)
async def show(request: web.Request) -> web.Response:
    """Shows an image with all that was found out; a part is null until its stage has a result."""
    image = await request.app[IMAGES].one(client_of(request).id, _ref(request))
    return json_answer(shapes.image_detail(image))


@routes.get("/images/{id}/status", allow_head=False)
@documented(
    tag="images",
    summary="Show where an image stands",
    answers={200: (StatusAnswer, "The image's status and each stage's.")},
    problems=(NotFound,),
)
@needs(Scope.IMAGES_READ)
async def status(request: web.Request) -> web.Response:
    """Shows where an image and each of its stages stand."""
    return json_answer(shapes.image_status(*await _stages(request)))


@routes.get("/images/{id}/exif", allow_head=False)
@documented(
    tag="images",
    summary="Show an image's EXIF",
    answers={200: (ExifAnswer, "What the exif stage found.")},
    problems=(NotFound,),
)
@needs(Scope.IMAGES_READ)
async def exif(request: web.Request) -> web.Response:
    """Shows camera, exposure, time and place."""
    image, stages = await _stages(request)
    return json_answer({"stage_status": str(stages[Stage.EXIF].status), "exif": shapes.exif(image)})


@routes.get("/images/{id}/ocr", allow_head=False)
@documented(
    tag="images",
    summary="Show an image's text",
    answers={200: (OcrAnswer, "What the ocr stage found.")},
    problems=(NotFound,),
)
@needs(Scope.IMAGES_READ)
async def ocr(request: web.Request) -> web.Response:
    """Shows the text that was read in the image."""
    image, stages = await _stages(request)
    return json_answer({"stage_status": str(stages[Stage.OCR].status), "ocr": shapes.ocr(image)})


@routes.get("/images/{id}/ai", allow_head=False)
@documented(
    tag="images",
    summary="Show an image's description and tags",
    answers={200: (AiAnswer, "What the vision stage found.")},
    problems=(NotFound,),
)
@needs(Scope.IMAGES_READ)
async def ai(request: web.Request) -> web.Response:
    """Shows what the vision model says is in the image."""
    image, stages = await _stages(request)
    return json_answer({"stage_status": str(stages[Stage.VISION].status), "ai": shapes.ai(image)})


@routes.get("/images/{id}/download-url", allow_head=False)
@documented(
    tag="images",
    summary="Get a URL of the original",
    answers={200: (UrlAnswer, "A URL that opens the original for a while, without a key.")},
    problems=(NotFound,),
)
@needs(Scope.IMAGES_READ)
async def download_url(request: web.Request) -> web.Response:
    """Gives a signed URL of the file as it was uploaded."""
    image = await request.app[IMAGES].one(client_of(request).id, _ref(request))
    return await _signed(request, image.object_key, image.content_type, image.original_name, "attachment")


@routes.get("/images/{id}/thumbnail-url", allow_head=False)
@documented(
    tag="images",
    summary="Get a URL of the thumbnail",
    answers={200: (UrlAnswer, "A URL that opens the thumbnail for a while, without a key.")},
    problems=(NotFound, NotReady, NoThumbnail),
)
@needs(Scope.IMAGES_READ)
async def thumbnail_url(request: web.Request) -> web.Response:
    """Gives a signed URL of the thumbnail; 409 until it is made, 404 where it can't be."""
    image, stages = await _stages(request)
    if image.thumbnail_key is None or image.thumbnail_type is None:
        if stages[Stage.THUMBNAIL].status is StageStatus.DEAD:
            raise NoThumbnail("No thumbnail could be made of this image.")
        raise NotReady("The thumbnail is being made.", retry_after=_THUMBNAIL_RETRY_SECONDS)
    name = f"thumbnail.{_EXTENSIONS.get(image.thumbnail_type, 'img')}"
    return await _signed(request, image.thumbnail_key, image.thumbnail_type, name, "inline")


@routes.post("/images/{id}/reprocess")
@documented(
    tag="images",
    summary="Run stages again",
    answers={202: (StatusAnswer, "The stages will run; results stay until they are replaced.")},
    problems=(NotFound, StageDisabled, Unprocessable),
)
@reads_json(ReprocessBody)
@needs(Scope.IMAGES_WRITE)
async def reprocess_(request: web.Request) -> web.Response:
    """Runs stages again whatever was done before; without `stages`, those of the client's pipeline."""
    client = client_of(request)
    names = request["json"].get("stages")
    rows = await reprocess(
        request.app[DATABASE],
        client,
        _ref(request),
        None if names is None else [Stage(name) for name in names],
        stages_off=request.app[SETTINGS].stages_off,
        headers=trace_headers(),
    )
    request.app[OUTBOX_PUBLISHER].publish_soon(rows)
    return json_answer(shapes.image_status(*await _stages(request)), status=202)


@routes.patch("/images/{id}")
@documented(
    tag="images",
    summary="Set a person's words",
    answers={200: (ImageAnswer, "The image with the words.")},
    problems=(NotFound, Unprocessable),
)
@reads_json(UserWordsBody)
@needs(Scope.IMAGES_WRITE)
async def set_words(request: web.Request) -> web.Response:
    """Sets a person's own description and tags, kept apart from the model's; null clears."""
    client = client_of(request)
    body = request["json"]
    await set_user_metadata(
        request.app[DATABASE],
        client,
        _ref(request),
        description=body.get("description", UNSET),
        tags=body.get("tags", UNSET),
    )
    return json_answer(shapes.image_detail(await request.app[IMAGES].one(client.id, _ref(request))))


@routes.delete("/images/{id}")
@documented(tag="images", summary="Delete an image", answers={204: (None, "The image is gone.")}, problems=(NotFound,))
@needs(Scope.IMAGES_DELETE)
async def delete(request: web.Request) -> web.Response:
    """Deletes an image with all that was found out, and gives its quota back."""
    rows = await delete_image(request.app[DATABASE], client_of(request), _ref(request), headers=trace_headers())
    request.app[OUTBOX_PUBLISHER].publish_soon(rows)
    return web.Response(status=204)


def _ref(request: web.Request) -> int | UUID:
    ref = entity_ref(request.match_info["id"])
    if ref is None:
        # What can't be an id is an unknown one.
        raise NotFound("No such image.")
    return ref


async def _stages(request: web.Request) -> tuple[ImageRow, dict[Stage, StageRow]]:
    return await get_stages(request.app[DATABASE], client_of(request).id, _ref(request))


async def _signed(
    request: web.Request, key: str, content_type: str, filename: str, disposition: Disposition
) -> web.Response:
    settings = request.app[SETTINGS]
    expires_at = (utc_now() + timedelta(seconds=settings.signed_url_ttl)).replace(microsecond=0)
    url = await request.app[STORE].signed_url(UrlRequest(key, content_type, filename, disposition, expires_at))
    if url.startswith("/"):
        base = settings.public_url or f"{request.scheme}://{request.host}"
        url = base.rstrip("/") + url
    return json_answer({"url": url, "expires_at": iso_utc(expires_at)})
