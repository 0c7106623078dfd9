"""The application: routes, middlewares and the document, around the services it is given."""

import asyncio
import contextlib
import copy
from collections.abc import Iterable, Iterator
from typing import Any

from aiohttp import web
from aiohttp_apispec import AiohttpApiSpec, validation_middleware
from marshmallow import Schema

from imago import __version__
from imago.api.admin import routes as admin
from imago.api.ai import routes as ai
from imago.api.auth import routes as auth
from imago.api.auth.authentication import authentication
from imago.api.auth.permissions import access_of
from imago.api.auth.rate_limits import address_limits, client_limits, rate_headers
from imago.api.clients import routes as clients
from imago.api.events import routes as events
from imago.api.files import routes as files
from imago.api.health import routes as health
from imago.api.images import routes as images
from imago.api.middlewares.cors import allow_origins
from imago.api.middlewares.headers import secure_headers
from imago.api.middlewares.observation import observation
from imago.api.middlewares.problems import problems
from imago.api.openapi import routes as docs
from imago.api.openapi.document import to_openapi
from imago.api.parsing import JsonParser, refuse
from imago.api.services import EVENTS, Services
from imago.api.uploads import routes as uploads

# JSON bodies alone: an upload's form is streamed and counted by `receiving`.
MAX_JSON_BYTES = 1024 * 1024

# Where aiohttp-apispec keeps a handler's description.
_DESCRIPTION = "__apispec__"

# Where its middleware looks for what reads requests.
_PARSER = "_apispec_parser"


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
        health.routes,
        docs.routes,
    ]
    if services.settings.metrics_port is None:
        tables.append(health.private_routes)
    _add(app, tables)
    app[docs.DOCUMENT] = _document(app)
    allow_origins(app, services.settings)
    return app


def build_private_app(services: Services) -> web.Application:
    """Build the application of `METRICS_PORT`: metrics and health, for the platform alone."""
    app = _application(services)
    _add(app, [health.private_routes, health.routes])
    return app


def _application(services: Services) -> web.Application:
    app = web.Application(
        middlewares=[observation, problems, address_limits, authentication, client_limits, validation_middleware],
        client_max_size=MAX_JSON_BYTES,
    )
    services.install(app)
    app[health.DRAINING] = asyncio.Event()
    app.on_response_prepare.append(secure_headers)
    app.on_response_prepare.append(rate_headers)
    app.on_response_prepare.append(_let_go_while_draining)
    app.on_shutdown.append(_end_event_streams)
    return app


async def _let_go_while_draining(request: web.Request, response: web.StreamResponse) -> None:
    # A connection that is kept would be closed under the next request, which nobody may repeat if it is an upload.
    if request.app[health.DRAINING].is_set():
        response.headers["Connection"] = "close"
        response.force_close()


async def _end_event_streams(app: web.Application) -> None:
    # They never end by themselves, and would keep the process from stopping.
    hub = app.get(EVENTS)
    if hub is not None:
        hub.dismiss()


def _add(app: web.Application, tables: Iterable[web.RouteTableDef]) -> None:
    for table in tables:
        for route in table:
            if isinstance(route, web.RouteDef) and access_of(route.handler) is None:
                raise TypeError(f"{route.path} doesn't say who may call it")
        app.add_routes(table)


def _document(app: web.Application) -> dict[str, Any]:
    # In place: the routes are all there, and the document is needed before the application starts.
    with _descriptions_kept(app):
        spec = AiohttpApiSpec(
            app=app,
            url=None,
            request_data_name="data",
            swagger_path=None,
            static_path=None,
            in_place=True,
            schema_name_resolver=_schema_name,
            title="Imago",
            version=__version__,
        )
    app[_PARSER] = JsonParser(error_handler=refuse)
    public = frozenset(
        (route.method.lower(), route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and (rule := access_of(route.handler)) is not None and rule.public
    )
    return to_openapi(spec.swagger_dict(), public=public)


@contextlib.contextmanager
def _descriptions_kept(app: web.Application) -> Iterator[None]:
    """Keep what handlers say of themselves: the library consumes it, and a second document would lack its schemas."""
    kept = {route.handler: getattr(route.handler, _DESCRIPTION, None) for route in app.router.routes()}
    for handler, description in kept.items():
        if description is not None:
            setattr(handler, _DESCRIPTION, copy.deepcopy(description))
    try:
        yield
    finally:
        for handler, description in kept.items():
            if description is not None:
                setattr(handler, _DESCRIPTION, description)


def _schema_name(schema: Schema | type[Schema]) -> str:
    cls = schema if isinstance(schema, type) else type(schema)
    return cls.__name__.removesuffix("Answer") or cls.__name__
