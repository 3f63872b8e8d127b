"""The web page at `/`: the static files in `page/`, which send requests to this server only."""

from __future__ import annotations

from importlib import resources

from fastapi import FastAPI
from fastapi.responses import Response

from tandem.server.errors import ApiError

_KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def install_page(app: FastAPI) -> None:
    folder = resources.files("tandem.server") / "page"
    files = {f.name: f for f in folder.iterdir() if any(f.name.endswith(kind) for kind in _KINDS)}

    def serve(name: str) -> Response:
        if name not in files:
            raise ApiError(404, f"there is no /page/{name}")
        kind = _KINDS[name[name.rindex(".") :]]
        return Response(files[name].read_bytes(), media_type=f"{kind}; charset=utf-8", headers=_HEADERS)

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return serve("index.html")

    @app.get("/page/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        return serve(name)
