"""`Client`: a server of ``coldpress serve`` as an object. Needs numpy only."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError, ServerError

Texts = str | Sequence[str]
Images = str | Path | bytes | Sequence[str | Path | bytes]
_BUSY = (429, 503)
_LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An item of the index, how near it is to the query, and what the index knows of it."""

    key: str
    score: float
    metadata: Mapping[str, Any] = field(default_factory=dict)
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The class of an item, the probability of each class, and neighbours if there is an index."""

    label: str | int
    probabilities: Mapping[str, float]
    neighbours: Sequence[Neighbour]


class Client:
    """Asks a server. Safe to use from several threads; each keeps a connection.

    Parameters
    ----------
    url : such as ``http://127.0.0.1:8080``.
    key : API key, if the server asks for one.
    timeout_s : for each try.
    retries : further tries, when the server says that it is busy and after how long to come back.

    Examples
    --------
    >>> client = coldpress.Client("http://127.0.0.1:8080")        # doctest: +SKIP
    >>> client.embed(["a text", "another"]).shape                 # doctest: +SKIP
    (2, 384)
    >>> client.search(text="how do I cancel my order")[0][0].key  # doctest: +SKIP
    'orders.txt:17'
    """

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 30.0, retries: int = 3) -> None:
        self._url = urlsplit(url)
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise ColdpressError(f"the server is {url!r}, expected an address such as http://127.0.0.1:8080")
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._timeout_s, self._retries = timeout_s, retries
        self._local = threading.local()

    def embed(self, text: Texts | None = None, *, image: Images | None = None) -> npt.NDArray[np.float32]:
        """Vectors (N, D) of texts, or of image files, as paths or bytes.

        Raises
        ------
        ServerError
            With the status and the words of the server. So do all methods.
        """
        answer, headers = self._ask("POST", "/v1/embed", _body(text=text, image=image), "application/octet-stream")
        rows, dim = map(int, headers["x-coldpress-shape"].split(","))
        return np.frombuffer(answer, "<f4").reshape(rows, dim).astype(np.float32)

    def search(
        self,
        text: Texts | None = None,
        *,
        image: Images | None = None,
        vector: npt.ArrayLike | None = None,
        key: Texts | None = None,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
    ) -> list[list[Neighbour]]:
        """The `k` nearest neighbours of each text, image, vector or item of the index, the nearest first.

        With `where`, among those whose metadata is so: ``{"label": ["cat", "dog"], "year": {">=": 1990}}``.
        """
        query = _body(text=text, image=image, vector=vector, key=key, where=where)
        found = self._json("/v1/search", query | {"k": k})
        return [_neighbours(result["hits"]) for result in found["results"]]

    def predict(
        self,
        text: Texts | None = None,
        *,
        image: Images | None = None,
        vector: npt.ArrayLike | None = None,
        k: int = 0,
    ) -> list[Prediction]:
        """The class of each text, image or vector; with `k`, neighbours too, if the server has an index."""
        found = self._json("/v1/predict", _body(text=text, image=image, vector=vector) | {"k": k})
        return [
            Prediction(one["label"], one["probabilities"], _neighbours(one["neighbours"] or ()))
            for one in found["results"]
        ]

    def info(self) -> Mapping[str, Any]:
        """What the server has and what it takes."""
        answer, _ = self._ask("GET", "/v1/info", None, "application/json")
        return dict(json.loads(answer))

    def drift(self) -> Mapping[str, Any]:
        """Whether what the server is asked is still like what it was asked before, by modality."""
        answer, _ = self._ask("GET", "/v1/drift", None, "application/json")
        return dict(json.loads(answer))

    def _json(self, path: str, body: Mapping[str, Any]) -> Any:
        answer, _ = self._ask("POST", path, body, "application/json")
        return json.loads(answer)

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None, accept: str
    ) -> tuple[bytes, http.client.HTTPMessage]:
        data = None if body is None else json.dumps(body).encode()
        headers = {**self._headers, "Accept": accept, "Content-Type": "application/json"}
        for attempt in range(self._retries + 1):
            response, answer = self._exchange(method, self._url.path.rstrip("/") + path, data, headers)
            if response.status == 200:
                return answer, response.headers
            if response.status not in _BUSY or attempt == self._retries:
                break
            time.sleep(_pause_s(response.headers))
        raise _error(response.status, answer)

    def _exchange(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """One request; once more over a new connection where the server has closed the one that was kept."""
        kept = getattr(self._local, "connection", None)
        for connection in (kept, self._connect()) if kept is not None else (self._connect(),):
            self._local.connection = connection
            try:
                connection.request(method, path, data, dict(headers))
                response = connection.getresponse()
                return response, response.read()
            except (http.client.HTTPException, ConnectionError) as error:
                connection.close()
                if connection is not kept:
                    raise ServerError(0, f"no answer from {self._url.netloc}: {error!r}") from error
            except OSError as error:
                connection.close()
                raise ServerError(0, f"no answer from {self._url.netloc}: {error}") from error
        raise AssertionError

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        return kind(str(self._url.hostname), self._url.port, timeout=self._timeout_s)


def _body(**given: Any) -> dict[str, Any]:
    """What is given, as JSON takes it."""
    fields = {name: value for name, value in given.items() if value is not None}
    if "image" in fields:
        images = fields["image"]
        fields["image"] = [_encoded(one) for one in ([images] if isinstance(images, str | Path | bytes) else images)]
    if "vector" in fields:
        fields["vector"] = np.atleast_2d(np.asarray(fields["vector"], np.float32)).tolist()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def _encoded(image: str | Path | bytes) -> str:
    return base64.b64encode(image if isinstance(image, bytes) else Path(image).read_bytes()).decode("ascii")


def _neighbours(hits: Sequence[Mapping[str, Any]]) -> list[Neighbour]:
    return [Neighbour(hit["key"], hit["score"], hit["metadata"], hit.get("text")) for hit in hits]


def _pause_s(headers: http.client.HTTPMessage) -> float:
    """Seconds until the next try; what stands between here and the server may say a date, or an hour."""
    stated = headers.get("retry-after", "")
    return min(float(stated), _LONGEST_PAUSE_S) if stated.isdecimal() else 1.0


def _error(status: int, answer: bytes) -> ServerError:
    try:
        error = json.loads(answer)["error"]
        return ServerError(status, error["message"])
    except (ValueError, KeyError, TypeError):
        return ServerError(status, answer[:200].decode("utf-8", "replace") or "no reason given")
