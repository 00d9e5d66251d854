"""The web page, and what it shows besides answers: thumbnails and the map."""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Query, Response

from coldpress.serve.answers import JSON
from coldpress.serve.native import ERRORS
from coldpress.serve.refusals import not_found
from coldpress.serve.service import Service

_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def router(service: Service) -> APIRouter:
    """The routes over a service."""
    routes = APIRouter()
    pages = _pages()

    async def page(name: str) -> Response:
        if name not in pages:
            raise not_found("no such page")
        return Response(pages[name], media_type=_KINDS[name[name.rindex(".") :]], headers={"cache-control": "no-cache"})

    routes.add_api_route("/", partial(page, "index.html"), include_in_schema=False)
    routes.add_api_route("/docs", partial(page, "docs.html"), include_in_schema=False)
    routes.add_api_route("/static/{name}", page, include_in_schema=False)

    @routes.get("/v1/thumbnail", tags=["coldpress"], responses=ERRORS)
    async def thumbnail(key: Annotated[str, Query(description="Of an item of the index.")]) -> Response:
        """A small JPEG of an image, where the server was started with ``--media``."""
        picture = await service.in_thread(service.catalogue.thumbnail, key)
        return Response(picture, media_type="image/jpeg", headers={"cache-control": "private, max-age=300"})

    @routes.get("/v1/map", tags=["coldpress"], responses=ERRORS)
    async def spots() -> Response:
        """A sample of the index in the plane: keys, x and y, and the metadata to colour them by."""
        found = await service.in_thread(lambda: service.catalogue.spots)
        x, y = found.points.T.round(4).tolist()
        return JSON({"keys": found.keys, "x": x, "y": y, "columns": found.columns})

    return routes


def _pages() -> dict[str, bytes]:
    """The files of the page, read once: what is asked for is looked up here and nowhere else."""
    return {file.name: file.read_bytes() for file in files("coldpress.serve").joinpath("static").iterdir()}
