"""`/docs`: Swagger UI over the OpenAPI document of this API.

Its files come from the package fastapi-offline: the page asks no other host. Nothing in it is inline: nginx's
Content-Security-Policy forbids that.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

SWAGGER_UI = Path(str(files("fastapi_offline") / "static"))

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Keymiss: the HTTP API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""

# Without validatorUrl Swagger UI would show the document to a service of its makers.
START = """"use strict";
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """The page."""
    return HTMLResponse(PAGE)


@router.get("/docs/start.js")
async def start() -> Response:
    """What the page begins with."""
    return Response(START, media_type="text/javascript")


def _give(name: str) -> None:
    @router.get(f"/docs/{name}")
    async def file() -> FileResponse:
        return FileResponse(SWAGGER_UI / name)


for _name in ("swagger-ui.css", "swagger-ui-bundle.js"):
    _give(_name)
