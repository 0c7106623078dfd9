"""Reprocess jobs: create, list, show, change and delete."""

from aiohttp import web

from imago.api.admin.reprocessing.requests import ReprocessJobBody, ReprocessJobPatchBody
from imago.api.admin.reprocessing.responses import (
    DryRunResponse,
    ReprocessJobResponse,
    ReprocessJobsResponse,
    reprocess_job_response,
    reprocess_jobs_response,
)
from imago.api.auth.permissions import ADMIN_OR_MANAGER, allow
from imago.api.http.json import json_response
from imago.api.http.paging import PageQuery, decode_id
from imago.api.http.request_context import actor_of
from imago.api.http.requests import entity_ref
from imago.api.http.services import DATABASE, SETTINGS
from imago.api.openapi.decorators import documented, reads_json, reads_query
from imago.core.errors import Conflict, NotFound, NothingSelected, Unprocessable
from imago.core.reprocessing.jobs import (
    JobPatch,
    JobRef,
    NewJob,
    count_selected,
    create_job,
    delete_job,
    get_job,
    list_jobs,
    patch_job,
)
from imago.core.reprocessing.model import Selection

routes = web.RouteTableDef()


@routes.post("/admin/reprocess-jobs")
@documented(
    tag="admin",
    summary="Reprocess old images",
    responses={
        200: (DryRunResponse, "The count of a dry run."),
        201: (ReprocessJobResponse, "The job."),
    },
    errors=(Conflict, NothingSelected, Unprocessable),
)
@reads_json(ReprocessJobBody)
@allow(ADMIN_OR_MANAGER)
async def create(request: web.Request) -> web.Response:
    """Create a job that runs stages of stored images again, at a limited rate, and keeps the results until then.

    An image is not queued while one of its runs of the same stage is waiting or in progress, and its stage does not run
    again if it has ended since the job was created, or since the creation of an older unfinished job that selects the
    same stage and client. Runs of a paid provider count against the client's AI calls, as those of uploads do. With
    `dry_run` only `matched` is returned. A request with the `uuid` of an existing job returns that job.
    """
    body = request["json"]
    selection = Selection.from_json(body["selection"])
    _require_enabled(request, selection)
    if body["dry_run"]:
        return json_response(DryRunResponse(matched=await count_selected(request.app[DATABASE], selection)))
    new = NewJob(selection, body["images_per_minute"], body["suspended"], body.get("uuid"))
    job = await create_job(request.app[DATABASE], new, by=actor_of(request))
    return json_response(reprocess_job_response(job), status=201)


@routes.get("/admin/reprocess-jobs", allow_head=False)
@documented(
    tag="admin",
    summary="List reprocess jobs",
    responses={200: (ReprocessJobsResponse, "A page of jobs, newest first.")},
    errors=(Unprocessable,),
)
@reads_query(PageQuery)
@allow(ADMIN_OR_MANAGER)
async def list_all(request: web.Request) -> web.Response:
    """List reprocess jobs, including completed ones."""
    query = request["querystring"]
    jobs, before = await list_jobs(request.app[DATABASE], limit=query["limit"], before=decode_id(query.get("cursor")))
    return json_response(reprocess_jobs_response(jobs, before))


@routes.get("/admin/reprocess-jobs/{id}", allow_head=False)
@documented(
    tag="admin",
    summary="Get a reprocess job",
    responses={200: (ReprocessJobResponse, "The job with its counts.")},
    errors=(NotFound,),
)
@allow(ADMIN_OR_MANAGER)
async def show(request: web.Request) -> web.Response:
    """Return a reprocess job by its id or its uuid."""
    return json_response(reprocess_job_response(await get_job(request.app[DATABASE], _ref(request))))


@routes.patch("/admin/reprocess-jobs/{id}")
@documented(
    tag="admin",
    summary="Suspend or resume a reprocess job, or change its rate",
    responses={200: (ReprocessJobResponse, "The changed job.")},
    errors=(Conflict, NotFound, Unprocessable),
)
@reads_json(ReprocessJobPatchBody)
@allow(ADMIN_OR_MANAGER)
async def change(request: web.Request) -> web.Response:
    """Suspend, resume, or change the rate. Runs that are queued continue. A completed job can't be changed."""
    body = request["json"]
    patch = JobPatch(body.get("images_per_minute"), body.get("suspended"))
    job = await patch_job(request.app[DATABASE], _ref(request), patch, by=actor_of(request))
    return json_response(reprocess_job_response(job))


@routes.delete("/admin/reprocess-jobs/{id}")
@documented(
    tag="admin",
    summary="Delete a reprocess job",
    responses={204: (None, "The job is deleted; the runs that it has queued continue.")},
    errors=(NotFound,),
)
@allow(ADMIN_OR_MANAGER)
async def delete(request: web.Request) -> web.Response:
    """Delete a job in any phase; it queues no further images."""
    await delete_job(request.app[DATABASE], _ref(request), by=actor_of(request))
    return web.Response(status=204)


def _ref(request: web.Request) -> JobRef:
    ref = entity_ref(request.match_info["id"])
    if ref is None:
        raise NotFound("No such reprocess job.")
    return ref


def _require_enabled(request: web.Request, selection: Selection) -> None:
    for stage in selection.stages:
        if stage in request.app[SETTINGS].stages_off:
            text = f"The stage {stage} is disabled on this server."
            raise Unprocessable(text, extra={"errors": {"selection": {"stages": [text]}}})
