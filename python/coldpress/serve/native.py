"""coldpress's own routes: search, embed, predict, info, reload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request, Response

from coldpress._version import __version__
from coldpress.serve import wire
from coldpress.serve.answers import JSON
from coldpress.serve.limits import MAX_NEIGHBOURS
from coldpress.serve.reading import MULTIPART, Query, dtype_of, read_query, wants_binary
from coldpress.serve.schemas import (
    Asked,
    EmbedRequest,
    EmbedResponse,
    ErrorResponse,
    PredictRequest,
    PredictResponse,
    SearchRequest,
    SearchResponse,
)
from coldpress.serve.service import Embedded, Hit, Service

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": why}
    for status, why in {
        401: "No valid API key.",
        403: "From another site, or to another host.",
        404: "No such index, head or key here.",
        408: "The request did not arrive in time.",
        413: "Too large.",
        415: "Not this kind of body here.",
        422: "A field makes no sense: `param` names it.",
        429: "Busy: try again after Retry-After seconds.",
        503: "The engine cannot compute.",
        504: "Not computed within the deadline.",
    }.items()
}


def body_of(model: type[Asked]) -> dict[str, Any]:
    """What OpenAPI says about a body that may come in several forms."""
    schema = model.model_json_schema()
    image = {"type": "array", "items": {"type": "string", "format": "binary"}}
    options = {name: value for name, value in schema["properties"].items() if name in ("k", "where")}
    content: dict[str, Any] = {
        "application/json": {"schema": schema},
        MULTIPART: {"schema": {"type": "object", "properties": {"image": image, **options}, "required": ["image"]}},
    }
    if "vector" in schema["properties"]:
        content[wire.BINARY] = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": content}}


PARAMETERS = {
    "parameters": [
        {
            "name": "dtype",
            "in": "query",
            "description": "Of binary vectors, in and out.",
            "schema": {"type": "string", "enum": ["float32", "float16"], "default": "float32"},
        }
    ]
}


def router(service: Service) -> APIRouter:
    """The routes over a service."""
    routes = APIRouter(tags=["coldpress"], responses=ERRORS)

    async def vectors_of(query: Query[Any]) -> npt.NDArray[np.float32]:
        if query.kind == "vector":
            service.saw_vectors(query.vectors)
            return query.vectors
        return (await service.embed(query.modality, query.contents, query.kind)).vectors

    @routes.post("/v1/search", response_model=SearchResponse, openapi_extra=body_of(SearchRequest) | PARAMETERS)
    async def search(request: Request) -> Response:
        """Find the nearest neighbours of texts, images, vectors or items of the index."""
        _ = service.index
        query = await read_query(request, SearchRequest, service.encoder.dim, service.limits)
        k = query.options.k
        if query.kind == "key":
            results = await service.search_keys(query.texts, k, query.options.where)
        else:
            results = await service.search(await vectors_of(query), k, query.options.where)
        return JSON({"results": [{"hits": hits_json(hits)} for hits in results], "fingerprint": fingerprint(service)})

    @routes.post("/v1/embed", response_model=EmbedResponse, openapi_extra=body_of(EmbedRequest) | PARAMETERS)
    async def embed(request: Request) -> Response:
        """Embed texts or images; with ``Accept: application/octet-stream`` the answer is the rows alone."""
        dtype = dtype_of(request)
        query = await read_query(request, EmbedRequest, service.encoder.dim, service.limits)
        made = await service.embed(query.modality, query.contents, query.kind)
        return _vectors_answer(service, made, dtype if wants_binary(request) else None)

    @routes.post("/v1/predict", response_model=PredictResponse, openapi_extra=body_of(PredictRequest) | PARAMETERS)
    async def predict(request: Request) -> Response:
        """Classify texts, images or vectors; where there is an index, with their neighbours in the same answer."""
        _ = service.head
        query = await read_query(request, PredictRequest, service.encoder.dim, service.limits)
        if query.kind != "vector":
            service.require_own(query.kind)
        vectors = await vectors_of(query)
        predicted = await service.predict(vectors)
        found: Sequence[list[Hit] | None] = [None] * len(vectors)
        if service.opened.index is not None and query.options.k:
            found = await service.search(vectors, query.options.k)
        results = [
            {
                "label": predicted.label(row),
                "probabilities": predicted.ranked(row),
                "neighbours": None if hits is None else hits_json(hits),
            }
            for row, hits in enumerate(found)
        ]
        return JSON({"results": results, "fingerprint": fingerprint(service)})

    @routes.get("/v1/info")
    async def info() -> Response:
        """What this server has and what it takes."""
        return JSON(describe(service))

    @routes.get("/v1/drift")
    async def drift() -> Response:
        """Whether what is asked is still like what was asked before, by modality."""
        return JSON({modality: watch.describe() for modality, watch in service.watches.items()})

    @routes.post("/v1/reload")
    async def reload() -> Response:
        """Open index and head anew, as they are on disk now; no request fails meanwhile."""
        await service.reload()
        return JSON(describe(service))

    return routes


def fingerprint(service: Service) -> str:
    """The digest of the space."""
    return service.encoder.extractor.fingerprint.digest


def hits_json(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """Neighbours as JSON."""
    return [{"key": hit.key, "score": round(hit.score, 6), **hit.about} for hit in hits]


def describe(service: Service) -> Mapping[str, Any]:
    """What a client may know: no path of the server is in it."""
    extractor, limits = service.encoder.extractor, service.limits
    index, catalogue, head = service.opened.index, service.opened.catalogue, service.opened.head
    return {
        "version": __version__,
        "model": service.name,
        "takes": list(service.opened.encoders),
        "dim": service.encoder.dim,
        "precision": extractor.precision,
        "fingerprint": extractor.fingerprint.digest,
        "index": None
        if index is None or catalogue is None
        else {
            "rows": len(index),
            "kind": index.kind,
            "metric": index.metric,
            "output": index.output,
            "recall_at_10": index.settings["recall_at_10"],
            "columns": list(catalogue.columns),
            "thumbnails": catalogue.has_thumbnails,
            "choices": dict(catalogue.choices),
            "map": catalogue.map is not None,
        },
        "head": None if head is None else {"classes": list(head.classes)},
        "limits": {
            "body_bytes": limits.body_bytes,
            "items": limits.items,
            "characters": limits.characters,
            "pixels": limits.pixels,
            "neighbours": MAX_NEIGHBOURS,
            "deadline_s": limits.deadline_s,
        },
    }


def _vectors_answer(service: Service, made: Embedded, dtype: wire.Dtype | None) -> Response:
    if dtype is None:
        return JSON(
            {
                "vectors": made.vectors,
                "dim": service.encoder.dim,
                "truncated": list(made.truncated),
                "tokens": made.tokens,
                "fingerprint": fingerprint(service),
            }
        )
    headers = {
        "x-coldpress-shape": ",".join(map(str, made.vectors.shape)),
        "x-coldpress-dtype": dtype,
        "x-coldpress-fingerprint": fingerprint(service),
    }
    return Response(wire.to_bytes(made.vectors, dtype), media_type=wire.BINARY, headers=headers)
