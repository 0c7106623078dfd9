"""/openapi.json, and /docs: Swagger UI, which needs no internet access."""

from pathlib import Path
from typing import Any

from aiohttp import web
from swagger_ui_bundle import swagger_ui_path

from imago.api.auth.permissions import PUBLIC, allow
from imago.api.http.json import json_response
from imago.api.openapi.decorators import BINARY, TEXT, documented
from imago.core.errors import NotFound

routes = web.RouteTableDef()

DOCUMENT: web.AppKey[dict[str, Any]] = web.AppKey("document", dict[str, Any])

# Not the copy in aiohttp-apispec's wheel: Swagger UI 4 doesn't render OpenAPI 3.1.
_ASSETS = Path(swagger_ui_path)
_CONTENT_TYPES = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui-standalone-preset.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Imago API</title>
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
<link rel="icon" type="image/png" href="docs/assets/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/assets/swagger-ui-standalone-preset.js"></script>
<script src="docs/assets/start.js"></script>
</body>
</html>
"""

_START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
  layout: "BaseLayout",
  deepLinking: true,
  validatorUrl: null
});
"""

# Swagger UI needs inline styles.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'"
)


@routes.get("/openapi.json", allow_head=False)
@documented(tag="service", summary="OpenAPI document", responses={200: ({"type": "object"}, "The OpenAPI document.")})
@allow(PUBLIC)
async def document(request: web.Request) -> web.Response:
    """Return this OpenAPI 3.1 document."""
    return json_response(request.app[DOCUMENT])


@routes.get("/docs", allow_head=False)
@documented(
    tag="service",
    summary="API documentation",
    responses={200: (TEXT, "A page to read and try the API.")},
    media_type="text/html",
)
@allow(PUBLIC)
async def page(_request: web.Request) -> web.Response:
    """Return a page that renders this document."""
    return web.Response(text=_PAGE, content_type="text/html", headers={"Content-Security-Policy": _POLICY})


@routes.get("/docs/assets/{name}", allow_head=False)
@documented(
    tag="service",
    summary="File of the API documentation",
    responses={200: (BINARY, "The file.")},
    media_type="*/*",
    errors=(NotFound,),
)
@allow(PUBLIC)
async def asset(request: web.Request) -> web.StreamResponse:
    """Return a script, style sheet or icon of the documentation."""
    name = request.match_info["name"]
    if name == "start.js":
        return web.Response(text=_START, content_type="text/javascript")
    if name not in _CONTENT_TYPES:
        raise NotFound("No such file.")
    return web.FileResponse(
        _ASSETS / name, headers={"Content-Type": _CONTENT_TYPES[name], "Cache-Control": "public, max-age=3600"}
    )
