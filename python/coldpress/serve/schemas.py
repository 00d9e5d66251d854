"""What clients send, checked field by field. Bounds that a server sets are checked where they are known."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from coldpress.serve.limits import MAX_NEIGHBOURS

Texts = str | Annotated[list[str], Field(min_length=1)]
Images = str | Annotated[list[str], Field(min_length=1)]
Row = Annotated[list[float], Field(min_length=1)]
Rows = Row | Annotated[list[Row], Field(min_length=1)]
Neighbours = Annotated[int, Field(ge=1, le=MAX_NEIGHBOURS, description="Neighbours of each query.")]

_TEXT = Field(default=None, description="A text, or several.")
_IMAGE = Field(default=None, description="An image file in base64, or several. Or send them as multipart/form-data.")
_VECTOR = Field(
    default=None, description="A vector, or several. Or send them as application/octet-stream: rows of ?dtype=."
)
Scalar = str | int | float | bool | None
Condition = Scalar | list[Scalar] | dict[Literal["=", "!=", "<", "<=", ">", ">="], Scalar]

_KEY = Field(default=None, description="The key of an item of the index, or several.")


class Asked(BaseModel):
    """What every native request has in common: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class EmbedRequest(Asked):
    """Exactly one of `text` and `image`."""

    text: Texts | None = _TEXT
    image: Images | None = _IMAGE


class SearchRequest(Asked):
    """Exactly one of `text`, `image`, `vector` and `key`."""

    text: Texts | None = _TEXT
    image: Images | None = _IMAGE
    vector: Rows | None = _VECTOR
    key: Texts | None = _KEY
    k: Neighbours = 10
    where: dict[str, Condition] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description='What the metadata of a neighbour must be: {"label": ["cat", "dog"], "year": {">=": 1990}}.',
    )


class PredictRequest(Asked):
    """Exactly one of `text`, `image` and `vector`."""

    text: Texts | None = _TEXT
    image: Images | None = _IMAGE
    vector: Rows | None = _VECTOR
    k: int = Field(default=5, ge=0, le=MAX_NEIGHBOURS, description="Neighbours too, where there is an index.")


class OpenAIRequest(BaseModel):
    """The body of OpenAI's ``POST /v1/embeddings``; what it may have besides is passed over."""

    input: Texts | Annotated[list[int], Field(min_length=1)] | Annotated[list[list[int]], Field(min_length=1)]
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)
    user: str | None = None


class TEIRequest(BaseModel):
    """The body of text-embeddings-inference's ``POST /embed``; what it may have besides is passed over."""

    inputs: Texts
    normalize: bool = True
    truncate: bool | None = None
    dimensions: int | None = Field(default=None, ge=1)


class HitOut(BaseModel):
    """A neighbour, and what is known of it."""

    key: str
    score: float
    metadata: dict[str, Scalar]
    text: str | None = None


class ResultOut(BaseModel):
    """The neighbours of one query, the nearest first."""

    hits: list[HitOut]


class SearchResponse(BaseModel):
    """One result for each query, in order."""

    results: list[ResultOut]
    fingerprint: str


class EmbedResponse(BaseModel):
    """One vector for each item, in order; `truncated` says which texts were longer than the model reads."""

    vectors: list[list[float]]
    dim: int
    truncated: list[bool]
    tokens: int
    fingerprint: str


class PredictionOut(BaseModel):
    """The most probable class, the probability of each, and neighbours where there is an index."""

    label: str | int
    probabilities: dict[str, float]
    neighbours: list[HitOut] | None


class PredictResponse(BaseModel):
    """One prediction for each item, in order."""

    results: list[PredictionOut]
    fingerprint: str


class ErrorOut(BaseModel):
    """Why there is no answer; `param` is the field that is meant."""

    message: str
    type: str
    param: str | None
    code: int | None


class ErrorResponse(BaseModel):
    """The body of every error but those of ``/embed``."""

    error: ErrorOut
