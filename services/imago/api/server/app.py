"""The applications: routes, middlewares and the OpenAPI document, around the services that they are given."""

import asyncio
from collections.abc import Iterable

from aiohttp import web

from imago.api.admin import routes as admin
from imago.api.admin.reprocessing import routes as reprocessing
from imago.api.ai import routes as ai
from imago.api.auth import routes as auth
from imago.api.auth.authentication import authentication
from imago.api.auth.permissions import permission_of
from imago.api.auth.rate_limits import address_limits, client_limits, rate_headers
from imago.api.clients import routes as clients
from imago.api.events import routes as events
from imago.api.files import routes as files
from imago.api.health import routes as health
from imago.api.http.errors import problems
from imago.api.http.services import EVENTS, Services
from imago.api.images import routes as images
from imago.api.middlewares.answers import charged, written
from imago.api.middlewares.bodies import MAX_JSON_BYTES, json_bodies
from imago.api.middlewares.cors import allow_origins
from imago.api.middlewares.headers import secure_headers
from imago.api.middlewares.observation import observation
from imago.api.middlewares.validation import set_up_validation, validation
from imago.api.openapi import routes as docs
from imago.api.openapi.document import build_document
from imago.api.server.memory import MEMORY
from imago.api.uploads import routes as uploads


def build_app(services: Services) -> web.Application:
    """Build the public application."""
    app = _application(services)
    tables = [
        uploads.routes,
        events.routes,
        images.routes,
        files.routes,
        ai.routes,
        auth.routes,
        clients.routes,
        admin.routes,
        reprocessing.routes,
        health.routes,
        docs.routes,
    ]
    if services.settings.metrics_port is None:
        tables.append(health.private_routes)
    add_routes(app, tables)
    app[docs.DOCUMENT] = build_document(app)
    allow_origins(app, services.settings)
    return app


def build_private_app(services: Services) -> web.Application:
    """Build the application of `METRICS_PORT`: metrics and health checks, only for the platform."""
    app = _application(services)
    add_routes(app, [health.private_routes, health.routes])
    return app


def add_routes(app: web.Application, tables: Iterable[web.RouteTableDef]) -> None:
    """Add routes; raise TypeError for a handler that does not declare who may call it."""
    for table in tables:
        for route in table:
            if isinstance(route, web.RouteDef) and permission_of(route.handler) is None:
                raise TypeError(f"{route.path} does not declare who may call it")
        app.add_routes(table)


def _application(services: Services) -> web.Application:
    app = web.Application(
        middlewares=[
            *(written, observation, problems, charged),
            *(address_limits, authentication, client_limits, json_bodies, validation),
        ],
        client_max_size=MAX_JSON_BYTES,
    )
    set_up_validation(app)
    services.install(app)
    app[MEMORY] = services.memory
    app[health.DRAINING] = asyncio.Event()
    app.on_response_prepare.append(secure_headers)
    app.on_response_prepare.append(rate_headers)
    app.on_response_prepare.append(_close_while_draining)
    app.on_shutdown.append(_end_event_streams)
    return app


async def _close_while_draining(request: web.Request, response: web.StreamResponse) -> None:
    # A kept connection would be closed during its next request, and a client may not repeat an upload.
    if request.app[health.DRAINING].is_set():
        response.headers["Connection"] = "close"
        response.force_close()


async def _end_event_streams(app: web.Application) -> None:
    # They never end by themselves and would keep the process from stopping.
    hub = app.get(EVENTS)
    if hub is not None:
        hub.dismiss()
