"""`/` and `/page/...`: the page's own files. They hold no data, so that they are served before anybody logs in."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)
_HERE = Path(__file__).parent
_KINDS = {
    ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".json": "application/json", ".svg": "image/svg+xml",
}  # fmt: skip
# The exported page (`runtime/web`) and this one share how a picture is zoomed and moved, and the icon.
_SHARED = {name: _HERE.parents[1] / "web/app" / name.rpartition("/")[2] for name in ("shared/viewer.js", "icon.svg")}


def _files() -> dict[str, Path]:
    """The files by their names in an address, such as "app/app.js": a request can name no other."""
    own = {str(path.relative_to(_HERE).as_posix()): path for path in sorted(_HERE.rglob("*")) if path.suffix in _KINDS}
    return own | _SHARED


FILES = _files()


@router.api_route("/", methods=["GET", "HEAD"])
def index() -> Response:
    """The page."""
    return _served("index.html")


@router.api_route("/page/{name:path}", methods=["GET", "HEAD"])
def part(name: str) -> Response:
    """A part of the page: a module, a style, a language."""
    return _served(name)


def _served(name: str) -> Response:
    if (path := FILES.get(name)) is None:
        raise HTTPException(404, "the page has no such part")
    return Response(path.read_bytes(), media_type=_KINDS[path.suffix])
