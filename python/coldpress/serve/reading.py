"""From the body of a request, in whatever form it came, to one value: JSON, an upload of images, or bare vectors."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, cast, get_args

import numpy as np
import numpy.typing as npt
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from coldpress.serve import wire
from coldpress.serve.limits import Limits
from coldpress.serve.refusals import Refused, invalid, too_large
from coldpress.serve.schemas import Asked
from coldpress.types import Modality

A = TypeVar("A", bound=Asked)
G = TypeVar("G")
Kind = Literal["text", "image", "vector", "key"]
MULTIPART = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Query(Generic[A]):
    """The items of a request, of one kind, and its options."""

    kind: Kind
    texts: Sequence[str]
    images: Sequence[bytes]
    vectors: npt.NDArray[np.float32]
    options: A

    @property
    def modality(self) -> Modality:
        """Of the contents."""
        return "image" if self.kind == "image" else "text"

    @property
    def contents(self) -> Sequence[str | bytes]:
        """Texts or images."""
        return self.images if self.kind == "image" else self.texts


async def read_query(request: Request, model: type[A], dim: int, limits: Limits) -> Query[A]:
    """Read and check a request.

    Parameters
    ----------
    model : of its JSON.
    dim : width D of vectors.

    Raises
    ------
    Refused, RequestValidationError
        Naming the field.
    """
    form = request.headers.get("content-type", "").split(";")[0].strip().lower()
    images: Sequence[bytes] = ()
    vectors = np.empty((0, dim), np.float32)
    if form == MULTIPART:
        images, fields = await _read_form(request, limits)
        options = _validated(model.model_validate, _parsed(fields))
    elif form == wire.BINARY:
        if "vector" not in model.model_fields:
            raise Refused(415, f"vectors ({wire.BINARY}) are not taken here, expected JSON or {MULTIPART}")
        options = _validated(
            model.model_validate, _parsed({n: v for n, v in request.query_params.items() if n != "dtype"})
        )
        vectors = wire.from_bytes(await request.body(), dtype_of(request), dim)
    else:
        options = _validated(model.model_validate_json, await request.body())
        images = _decoded(getattr(options, "image", None))
        if (rows := getattr(options, "vector", None)) is not None:
            vectors = wire.checked(rows if isinstance(rows[0], list) else [rows], dim, "vector")
    texts = {name: _listed(getattr(options, name, None)) for name in ("text", "key")}
    given = [name for name, values in (*texts.items(), ("image", images), ("vector", vectors)) if len(values)]
    if len(given) != 1:
        known = [name for name in get_args(Kind) if name in model.model_fields]
        got = " and ".join(given) or "none"
        raise invalid(f"got {got}, expected exactly one of {', '.join(known)}", given[0] if given else "body")
    kind = cast(Kind, given[0])
    query = Query(kind, texts.get(kind, ()), images, vectors, options)
    check_items(query.vectors if kind == "vector" else query.contents, kind, limits)
    return query


def check_items(items: Sequence[Any] | npt.NDArray[Any], field: str, limits: Limits) -> None:
    """Refuse more items, or more characters of texts, than a request may have."""
    if len(items) > limits.items:
        raise too_large(f"got {len(items)} items, limit {limits.items}: send several requests", field)
    characters = sum(len(item) for item in items if isinstance(item, str))
    if characters > limits.characters:
        raise too_large(f"got {characters} characters, limit {limits.characters}", field)


def dtype_of(request: Request) -> wire.Dtype:
    """The dtype of binary vectors, in and out."""
    dtype = request.query_params.get("dtype", "float32")
    if dtype not in get_args(wire.Dtype):
        raise invalid(f"got {dtype!r}, expected {' or '.join(get_args(wire.Dtype))}", "dtype")
    return cast(wire.Dtype, dtype)


def wants_binary(request: Request) -> bool:
    """Whether the client asks for bare vectors."""
    return wire.BINARY in request.headers.get("accept", "")


async def _read_form(request: Request, limits: Limits) -> tuple[list[bytes], dict[str, Any]]:
    """The files called ``image``, and the other fields."""
    images: list[bytes] = []
    fields: dict[str, Any] = {}
    async with request.form(max_files=limits.items + 1, max_fields=32, max_part_size=limits.body_bytes) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != "image":
                    raise invalid("got a file, expected files in the field image only", name)
                images.append(await value.read())
            elif name == "text":
                fields.setdefault(name, []).append(value)
            else:
                fields[name] = value
    return images, fields


def _parsed(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a form or of a query string, where conditions are JSON."""
    if "where" not in fields:
        return fields
    try:
        return {**fields, "where": json.loads(fields["where"])}
    except ValueError as error:
        raise invalid(f"not JSON: {error}", "where") from error


def _validated(read: Callable[[G], A], given: G) -> A:
    try:
        return read(given)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_input=False, include_context=False)) from error


def _listed(value: str | list[str] | None) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else value


def _decoded(value: str | list[str] | None) -> list[bytes]:
    try:
        return [base64.b64decode(text, validate=True) for text in _listed(value)]
    except (binascii.Error, ValueError) as error:
        raise invalid(f"not base64: {error}", "image") from error
