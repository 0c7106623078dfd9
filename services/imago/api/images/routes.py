"""Reading, searching, reprocessing and deleting images."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog
from aiohttp import web

from imago.api.auth.permissions import allow_clients, client_of
from imago.api.http.json import json_response
from imago.api.http.paging import PageQuery, decode_hit, decode_id, decode_tag
from imago.api.http.requests import entity_ref
from imago.api.http.services import DATABASE, IMAGES, OUTBOX_PUBLISHER, SEARCH, SETTINGS, STORE
from imago.api.images.requests import (
    ImageQuery,
    IncludeQuery,
    OcrQuery,
    ReprocessBody,
    SimilarQuery,
    StatusQuery,
    UserWordsBody,
)
from imago.api.images.responses import (
    AiResponse,
    ExifResponse,
    ImageResponse,
    ImagesResponse,
    OcrResponse,
    SignedUrlResponse,
    SimilarImagesResponse,
    StatusResponse,
    TagsResponse,
    ai_response,
    exif_response,
    image_response,
    images_response,
    ocr_details,
    ocr_response,
    search_response,
    similar_response,
    sorted_response,
    status_response,
    tags_response,
)
from imago.api.images.sort_cursors import decode_position
from imago.api.images.urls import image_responses, original_url, thumbnail_url
from imago.api.openapi.decorators import documented, reads_json, reads_query
from imago.core.clients.scopes import Scope
from imago.core.errors import NotFound, NoThumbnail, NotReady, StageDisabled, Unprocessable
from imago.core.images.changes import UNSET, delete_image, reprocess, set_user_metadata
from imago.core.images.lists.filters import ImageFilter
from imago.core.images.lists.places import PlaceFilter
from imago.core.images.lists.similar import find_similar, same_pictures
from imago.core.images.lists.sorting import NEWEST, RELEVANT, SORTS
from imago.core.images.ocr.details import read_ocr_details
from imago.core.images.queries import MAX_COUNT, ImageRow, StageRow, get_stages, list_tags
from imago.core.jobs.stages import ImageStatus, Stage, StageStatus
from imago.objects.store import ObjectStore
from imago.telemetry.tracing import trace_headers

log = structlog.get_logger(__name__)

routes = web.RouteTableDef()

# A running worker makes a thumbnail in a fraction of a second.
_THUMBNAIL_RETRY_SECONDS = 2

_SORTS = {str(sort): sort for sort in SORTS}

_SIMILAR_TO = 10

# A client doesn't wait longer for the deletion of objects, which the object cleaner repeats.
_DELETION_SECONDS = 5.0


@routes.get("/images", allow_head=False)
@documented(
    tag="images",
    summary="List images",
    responses={200: (ImagesResponse, "A page of images, newest first; with `q` the most relevant first.")},
    errors=(Unprocessable,),
)
@reads_query(ImageQuery)
@allow_clients(Scope.IMAGES_READ)
async def list_(request: web.Request) -> web.Response:
    """List the client's images, newest first. An image must match all filters.

    With `q` the most relevant come first: images that have the words, then those with words that begin so. Places are
    those of [GeoNames](https://www.geonames.org) (CC BY 4.0).
    """
    client = client_of(request)
    query: dict[str, Any] = dict(request["querystring"])
    limit, cursor, include = query.pop("limit"), query.pop("cursor", None), query.pop("include", ())
    name, counted = query.pop("sort", None), query.pop("total", False)
    filters = _filters(query)
    sort = _SORTS[name] if name else NEWEST if filters.q is None else RELEVANT
    if sort == RELEVANT:
        found = await request.app[SEARCH].page(client.id, filters, limit=limit, after=decode_hit(cursor))
        items = await image_responses(request, found.items, include)
        response = search_response(found, items, client.limits)
    elif sort == NEWEST:
        page = await request.app[IMAGES].page(client.id, filters, limit=limit, before=decode_id(cursor))
        items = await image_responses(request, page.items, include)
        response = images_response(page, items, client.limits)
    else:
        after = decode_position(cursor, sort)
        ordered = await request.app[IMAGES].sorted_page(client.id, filters, sort, limit=limit, after=after)
        items = await image_responses(request, ordered.items, include)
        response = sorted_response(ordered, items, client.limits, sort=sort)
    if counted:
        response["total"] = await request.app[IMAGES].count(client.id, filters)
        response["total_exact"] = response["total"] < MAX_COUNT or filters == ImageFilter()
    return json_response(response)


def _filters(query: dict[str, Any]) -> ImageFilter:
    if "status" in query:
        query["status"] = ImageStatus(query["status"])
    query["tags"] = tuple(query.pop("tags", ()))
    where = PlaceFilter(**{name: query.pop(name) for name in ("near", "bbox", "place", "country") if name in query})
    return ImageFilter(**query, where=where)


@routes.get("/images/tags/all", allow_head=False)
@documented(
    tag="images",
    summary="List tags",
    responses={200: (TagsResponse, "A page of tags with the number of their images, the most frequent first.")},
    errors=(Unprocessable,),
)
@reads_query(PageQuery)
@allow_clients(Scope.IMAGES_READ)
async def tags(request: web.Request) -> web.Response:
    """List the tags of the client's images, those of the model and of users alike."""
    client, query = client_of(request), request["querystring"]
    limit, after = query["limit"], decode_tag(query.get("cursor"))
    found = await list_tags(request.app[DATABASE], client.id, limit=limit + 1, after=after)
    return json_response(tags_response(found, limit=limit))


@routes.get("/images/{id}", allow_head=False)
@documented(
    tag="images",
    summary="Get an image",
    responses={200: (ImageResponse, "The image.")},
    errors=(NotFound, Unprocessable),
)
@reads_query(IncludeQuery)
@allow_clients(Scope.IMAGES_READ)
async def show(request: web.Request) -> web.Response:
    """Return an image with the results of its stages. A result is null until its stage is done."""
    image = await request.app[IMAGES].one(client_of(request).id, _ref(request))
    (response,) = await image_responses(request, [image], request["querystring"].get("include", ()))
    return json_response(response)


@routes.get("/images/{id}/similar", allow_head=False)
@documented(
    tag="images",
    summary="List look-alikes",
    responses={200: (SimilarImagesResponse, "Images that look like this one, the most similar first.")},
    errors=(NotFound, Unprocessable),
)
@reads_query(SimilarQuery)
@allow_clients(Scope.IMAGES_READ)
async def similar(request: web.Request) -> web.Response:
    """List the client's images that show the same picture or a similar one. It is advice: nothing is merged or deleted.

    Images are compared as soon as their stages thumbnail and vision are done.
    """
    client, limit = client_of(request), request["querystring"]["limit"]
    found = await find_similar(request.app[DATABASE], client.id, _ref(request), limit=limit)
    return json_response(similar_response(found))


@routes.get("/images/{id}/status", allow_head=False)
@documented(
    tag="images",
    summary="Get an image's status",
    responses={200: (StatusResponse, "The status of the image and of each of its stages.")},
    errors=(NotFound, Unprocessable),
)
@reads_query(StatusQuery)
@allow_clients(Scope.IMAGES_READ)
async def status(request: web.Request) -> web.Response:
    """Return the status of an image and of each of its stages."""
    response = await _status(request)
    if "similar_to" in request["querystring"].get("include", ()):
        response["similar_to"] = await same_pictures(
            request.app[DATABASE], client_of(request).id, response["id"], limit=_SIMILAR_TO
        )
    return json_response(response)


@routes.get("/images/{id}/exif", allow_head=False)
@documented(
    tag="images",
    summary="Get an image's EXIF data",
    responses={200: (ExifResponse, "The result of the exif stage.")},
    errors=(NotFound,),
)
@allow_clients(Scope.IMAGES_READ)
async def exif(request: web.Request) -> web.Response:
    """Return the camera, exposure, time and place."""
    return json_response(exif_response(*await _stages(request)))


@routes.get("/images/{id}/ocr", allow_head=False)
@documented(
    tag="images",
    summary="Get an image's text",
    responses={200: (OcrResponse, "The result of the ocr stage.")},
    errors=(NotFound, Unprocessable),
)
@reads_query(OcrQuery)
@allow_clients(Scope.IMAGES_READ)
async def ocr(request: web.Request) -> web.Response:
    """Return the text that is visible in the image."""
    image, stages = await _stages(request)
    response, include = ocr_response(image, stages), request["querystring"].get("include", ())
    if include:
        details = await read_ocr_details(request.app[DATABASE], client_of(request).id, image.id)
        response = {**response, **ocr_details(details, include)}
    return json_response(response)


@routes.get("/images/{id}/ai", allow_head=False)
@documented(
    tag="images",
    summary="Get an image's description and tags",
    responses={200: (AiResponse, "The result of the vision stage.")},
    errors=(NotFound,),
)
@allow_clients(Scope.IMAGES_READ)
async def ai(request: web.Request) -> web.Response:
    """Return the vision model's description and tags of the image."""
    return json_response(ai_response(*await _stages(request)))


@routes.get("/images/{id}/download-url", allow_head=False)
@documented(
    tag="images",
    summary="Get a URL of the original",
    responses={200: (SignedUrlResponse, "A URL of the original that needs no key until it expires.")},
    errors=(NotFound,),
)
@allow_clients(Scope.IMAGES_READ)
async def download_url(request: web.Request) -> web.Response:
    """Return a signed URL of the file as it was uploaded."""
    image = await request.app[IMAGES].one(client_of(request).id, _ref(request))
    return json_response(await original_url(request, image))


@routes.get("/images/{id}/thumbnail-url", allow_head=False)
@documented(
    tag="images",
    summary="Get a URL of the thumbnail",
    responses={200: (SignedUrlResponse, "A URL of the thumbnail that needs no key until it expires.")},
    errors=(NotFound, NotReady, NoThumbnail),
)
@allow_clients(Scope.IMAGES_READ)
async def show_thumbnail_url(request: web.Request) -> web.Response:
    """Return a signed URL of the thumbnail: 409 until it exists, 404 if it could not be made."""
    image, stages = await _stages(request)
    url = await thumbnail_url(request, image)
    if url is None:
        if stages[Stage.THUMBNAIL].status is StageStatus.DEAD:
            raise NoThumbnail("The thumbnail of this image could not be made.")
        raise NotReady("The thumbnail is not ready yet.", retry_after=_THUMBNAIL_RETRY_SECONDS)
    return json_response(url)


@routes.post("/images/{id}/reprocess")
@documented(
    tag="images",
    summary="Run stages again",
    responses={202: (StatusResponse, "The stages are queued; results stay until they are replaced.")},
    errors=(NotFound, StageDisabled, Unprocessable),
)
@reads_json(ReprocessBody)
@allow_clients(Scope.IMAGES_WRITE)
async def reprocess_(request: web.Request) -> web.Response:
    """Run stages again, whatever their status; by default those of the client's pipeline."""
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
    return json_response(await _status(request), status=202)


@routes.patch("/images/{id}")
@documented(
    tag="images",
    summary="Set the user's description and tags",
    responses={200: (ImageResponse, "The image with the user's description and tags.")},
    errors=(NotFound, Unprocessable),
)
@reads_json(UserWordsBody)
@allow_clients(Scope.IMAGES_WRITE)
async def set_words(request: web.Request) -> web.Response:
    """Set the user's own description and tags, which are kept apart from the model's; null removes them."""
    client, body = client_of(request), request["json"]
    await set_user_metadata(
        request.app[DATABASE],
        client,
        _ref(request),
        description=body.get("description", UNSET),
        tags=body.get("tags", UNSET),
    )
    return json_response(image_response(await request.app[IMAGES].one(client.id, _ref(request))))


@routes.delete("/images/{id}")
@documented(
    tag="images", summary="Delete an image", responses={204: (None, "The image is deleted.")}, errors=(NotFound,)
)
@allow_clients(Scope.IMAGES_DELETE)
async def delete(request: web.Request) -> web.Response:
    """Delete an image with its results and files, and release its quota. Its signed URLs end with its files."""
    deleted = await delete_image(request.app[DATABASE], client_of(request), _ref(request), headers=trace_headers())
    request.app[OUTBOX_PUBLISHER].publish_soon(deleted.outbox)
    await _delete_objects(request.app[STORE], deleted.object_keys)
    return web.Response(status=204)


async def _delete_objects(store: ObjectStore, keys: Sequence[str]) -> None:
    """Delete the objects of a deleted image, so that its URLs end; what fails is left to the object cleaner."""
    try:
        async with asyncio.timeout(_DELETION_SECONDS):
            outcomes = await asyncio.gather(*(store.delete(key) for key in keys), return_exceptions=True)
    except TimeoutError as error:
        outcomes = [error]
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            log.warning("object.delete-failed", error=type(outcome).__name__)


def _ref(request: web.Request) -> int | UUID:
    ref = entity_ref(request.match_info["id"])
    if ref is None:
        # Anything that can't be an id is answered like an unknown id.
        raise NotFound("No such image.")
    return ref


async def _status(request: web.Request) -> StatusResponse:
    language = client_of(request).pipeline.description_language
    return status_response(*await _stages(request), language=language)


async def _stages(request: web.Request) -> tuple[ImageRow, dict[Stage, StageRow]]:
    return await get_stages(request.app[DATABASE], client_of(request).id, _ref(request))
