"""`build`: the routes over a service, and what becomes of errors."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from coldpress._version import __version__
from coldpress.serve import compatible, native, page
from coldpress.serve.answers import error_answer, from_validation
from coldpress.serve.guard import Guard
from coldpress.serve.refusals import Refused
from coldpress.serve.service import Service

logger = logging.getLogger(__name__)

DESCRIPTION = """Texts or images in; vectors, neighbours and classes out, all of one vector space.

Every error has a body that says what was got and what was expected. With API keys, send `Authorization: Bearer KEY`.
"""


def build(service: Service, *, keys: Mapping[str, str] | None = None, hosts: tuple[str, ...] | None = None) -> Guard:
    """The ASGI application.

    Parameters
    ----------
    service : started and stopped with the application.
    keys, hosts : as of :class:`~coldpress.serve.guard.Guard`.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="coldpress",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # the pages that FastAPI has for it load scripts from elsewhere
        redoc_url=None,
    )
    app.include_router(native.router(service))
    app.include_router(compatible.router(service))
    app.include_router(page.router(service))
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
    return Guard(
        app,
        limits=service.limits,
        metrics=service.metrics,
        keys=keys,
        hosts=hosts,
        full_for_s=lambda: service.full_for_s,
    )


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error_answer(request.url.path, error)


def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return error_answer(request.url.path, from_validation(error.errors()))


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = 422 if error.status_code == 400 else error.status_code
    answer = error_answer(request.url.path, Refused(status, str(error.detail)))
    answer.headers.update(error.headers or {})
    return answer


def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error, exc_info=error)
    return error_answer(request.url.path, Refused(500, "internal error; see the log", kind="server_error"))
