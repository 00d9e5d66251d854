"""Routes that clients of others speak: OpenAI's embeddings, text-embeddings-inference, Prometheus."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from coldpress._version import __version__
from coldpress.serve import wire
from coldpress.serve.answers import JSON
from coldpress.serve.native import ERRORS
from coldpress.serve.reading import check_items
from coldpress.serve.refusals import Refused, invalid, not_found, too_large
from coldpress.serve.schemas import OpenAIRequest, TEIRequest
from coldpress.serve.service import Embedded, Service

BAD = {400: {**ERRORS[422], "description": "A field makes no sense: `param` names it."}}


def router(service: Service) -> APIRouter:
    """The routes over a service."""
    routes = APIRouter()
    _add_openai(routes, service)
    _add_tei(routes, service)

    @routes.get("/health", tags=["operation"], responses={503: {"description": "The engine cannot compute."}})
    async def health() -> Response:
        """200 while the engine computes, 503 when it does not."""
        return JSON({"status": "ok"} if service.alive else {"status": "engine down"}, 200 if service.alive else 503)

    @routes.get("/metrics", tags=["operation"], responses={401: ERRORS[401]})
    async def metrics() -> Response:
        """Counters, gauges and histograms for Prometheus."""
        service.metrics.alive.set(service.alive)
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return routes


def _add_openai(routes: APIRouter, service: Service) -> None:
    responses = {status: one for status, one in ERRORS.items() if status != 422} | BAD

    @routes.post("/v1/embeddings", tags=["OpenAI"], responses=responses)
    async def embeddings(body: OpenAIRequest) -> Response:
        """OpenAI's embeddings: of texts, as floats or base64, of so many `dimensions`."""
        if body.model != service.name:
            raise not_found(f"this server has {service.name!r}, not {body.model!r}", "model")
        texts = [
            text for text in ([body.input] if isinstance(body.input, str) else body.input) if isinstance(text, str)
        ]
        if not texts:
            raise invalid("got token numbers, expected texts: the tokens of other models mean nothing here", "input")
        check_items(texts, "input", service.limits)
        made = await service.embed("text", texts, "input")
        rows = shortened(made.vectors, body.dimensions)
        encoded: list[Any] = (
            [wire.to_base64(row) for row in rows] if body.encoding_format == "base64" else rows.tolist()
        )
        return JSON(
            {
                "object": "list",
                "data": [{"object": "embedding", "index": i, "embedding": e} for i, e in enumerate(encoded)],
                "model": service.name,
                "usage": {"prompt_tokens": made.tokens, "total_tokens": made.tokens},
            }
        )

    @routes.get("/v1/models", tags=["OpenAI"], responses={401: ERRORS[401]})
    async def models() -> Response:
        """The one model that is served."""
        model = {"id": service.name, "object": "model", "created": 0, "owned_by": "coldpress"}
        return JSON({"object": "list", "data": [model]})


def _add_tei(routes: APIRouter, service: Service) -> None:
    responses: dict[int | str, dict[str, Any]] = {
        status: {"description": one["description"]} for status, one in ERRORS.items()
    }

    @routes.post("/embed", tags=["text-embeddings-inference"], responses=responses)
    async def embed(body: TEIRequest) -> Response:
        """Vectors of texts, a list each, as text-embeddings-inference answers."""
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        check_items(texts, "inputs", service.limits)
        made = await service.embed("text", texts, "inputs")
        if body.truncate is False:
            _refuse_truncated(made)
        rows = shortened(made.vectors, body.dimensions)
        return JSON(_normalised(rows) if body.normalize else rows)

    @routes.get("/info", tags=["text-embeddings-inference"], responses={401: ERRORS[401]})
    async def info() -> Response:
        """What text-embeddings-inference says about itself, of this server."""
        extractor, limits = service.encoder.extractor, service.limits
        return JSON(
            {
                "model_id": service.name,
                "model_sha": extractor.fingerprint.digest,
                "model_dtype": extractor.precision,
                "model_type": {"embedding": {"pooling": extractor.outputs[0].pooling}},
                "max_concurrent_requests": limits.requests,
                "max_input_length": getattr(extractor.model.spec, "max_tokens", None),
                "max_batch_tokens": service.queues[extractor.modality].budget,
                "max_client_batch_size": limits.items,
                "auto_truncate": True,
                "version": __version__,
            }
        )


def shortened(vectors: npt.NDArray[np.float32], dim: int | None) -> npt.NDArray[np.float32]:
    """The first `dim` numbers of each vector (N, D), at length 1 again: what Matryoshka models are trained for.

    Raises
    ------
    Refused
        If there are not as many.
    """
    if dim is None or dim == vectors.shape[1]:
        return vectors
    if dim > vectors.shape[1]:
        raise invalid(f"got {dim}, expected at most {vectors.shape[1]}", "dimensions")
    return _normalised(vectors[:, :dim])


def _normalised(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows of length 1; those that have it already keep their bits."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit = np.abs(norms - 1) < 1e-6
    return np.where(unit, vectors, vectors / np.maximum(norms, 1e-12)).astype(np.float32)


def _refuse_truncated(made: Embedded) -> None:
    if True in made.truncated:
        place = f"inputs[{made.truncated.index(True)}]"
        refused: Refused = too_large("longer than the model reads: leave truncate out to have it cut", place)
        raise refused
