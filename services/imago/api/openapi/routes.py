"""/openapi.json and /docs: the document, and the pages that show it without the internet."""

from pathlib import Path
from typing import Any

import aiohttp_apispec
from aiohttp import web

from imago.api.answers import json_answer
from imago.api.auth.permissions import PUBLIC, access
from imago.api.openapi.decorators import documented
from imago.core.errors import NotFound

routes = web.RouteTableDef()

DOCUMENT: web.AppKey[dict[str, Any]] = web.AppKey("document", dict[str, Any])

# Swagger UI comes in aiohttp-apispec's wheel.
_ASSETS = Path(aiohttp_apispec.__file__).parent / "static"
_SERVED = {
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

# Swagger UI styles its elements inline; nothing else is let in.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'"
)


@routes.get("/openapi.json", allow_head=False)
@documented(tag="service", summary="This document", answers={200: (None, "The OpenAPI document.")})
@access(PUBLIC)
async def document(request: web.Request) -> web.Response:
    """Gives the OpenAPI 3 document of the API."""
    return json_answer(request.app[DOCUMENT])


@routes.get("/docs", allow_head=False)
@documented(tag="service", summary="The documentation", answers={200: (None, "A page to read and try the API.")})
@access(PUBLIC)
async def page(_request: web.Request) -> web.Response:
    """Shows the API to people."""
    return web.Response(text=_PAGE, content_type="text/html", headers={"Content-Security-Policy": _POLICY})


@routes.get("/docs/assets/{name}", allow_head=False)
@documented(
    tag="service", summary="What the documentation needs", answers={200: (None, "A file.")}, problems=(NotFound,)
)
@access(PUBLIC)
async def asset(request: web.Request) -> web.StreamResponse:
    """Serves what the page needs."""
    name = request.match_info["name"]
    if name == "start.js":
        return web.Response(text=_START, content_type="text/javascript")
    if name not in _SERVED:
        raise NotFound("No such file.")
    return web.FileResponse(
        _ASSETS / name, headers={"Content-Type": _SERVED[name], "Cache-Control": "public, max-age=3600"}
    )
