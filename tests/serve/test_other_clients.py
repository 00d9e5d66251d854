"""Clients of others, as they come: the `openai` package, text-embeddings-inference's requests, Prometheus' parser."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import numpy as np
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from coldpress import Extractor

TEXTS = ["a cat sits on a mat", "the weather is fine"]
MODEL = "all-MiniLM-L6-v2"


@pytest.fixture
def client(server: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize("form", ["float", "base64", None])
def test_openai_gets_the_vectors(client: openai.OpenAI, extractor: Extractor, form: Any) -> None:
    """By default the package asks for base64, and decodes it itself."""
    given = {} if form is None else {"encoding_format": form}
    answer = client.embeddings.create(model=MODEL, input=TEXTS, **given)
    assert [one.index for one in answer.data] == [0, 1]
    if form == "base64":
        rows = np.stack([np.frombuffer(__import__("base64").b64decode(one.embedding), "<f4") for one in answer.data])
    else:
        rows = np.float32([one.embedding for one in answer.data])
    assert np.array_equal(rows, extractor.embed(TEXTS))
    assert answer.model == MODEL
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 8 + 6


def test_openai_gets_shorter_vectors_of_length_1(client: openai.OpenAI, extractor: Extractor) -> None:
    (one,) = client.embeddings.create(model=MODEL, input=TEXTS[0], dimensions=64).data
    expected = extractor.embed(TEXTS[:1])[0, :64]
    np.testing.assert_allclose(one.embedding, expected / np.linalg.norm(expected), rtol=1e-6)


def test_openai_is_told_what_is_wrong(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    with pytest.raises(openai.NotFoundError, match="this server has 'all-MiniLM-L6-v2', not 'text-embedding-3-small'"):
        client.embeddings.create(model="text-embedding-3-small", input="a")
    with pytest.raises(openai.BadRequestError, match="expected at most 384") as error:
        client.embeddings.create(model=MODEL, input="a", dimensions=385)
    assert (error.value.param, error.value.type) == ("dimensions", "invalid_request_error")
    with pytest.raises(openai.BadRequestError, match="token numbers"):
        client.embeddings.create(model=MODEL, input=[[1, 2, 3]])
    with pytest.raises(openai.APIStatusError, match="limit 256"):
        client.embeddings.create(model=MODEL, input=["a"] * 257)


def tei(server: Any, body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(server.url + "/embed", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_requests_of_text_embeddings_inference_are_answered(server: Any, extractor: Extractor) -> None:
    assert np.array_equal(np.float32(tei(server, {"inputs": TEXTS})[1]), extractor.embed(TEXTS))
    single = {"inputs": TEXTS[0], "truncate": True, "normalize": True, "prompt_name": None}
    assert np.array_equal(np.float32(tei(server, single)[1]), extractor.embed(TEXTS[:1]))
    long = {"inputs": ["a", "word " * 600]}
    assert tei(server, long)[0] == 200
    assert tei(server, {**long, "truncate": False}) == (
        413,
        {
            "error": "inputs[1]: longer than the model reads: leave truncate out to have it cut",
            "error_type": "Validation",
        },
    )
    assert tei(server, {})[1]["error_type"] == "Validation"
    with urllib.request.urlopen(server.url + "/info", timeout=10) as answer:
        info = json.load(answer)
    assert (info["model_id"], info["max_input_length"], info["max_client_batch_size"]) == (MODEL, 256, 256)


def test_prometheus_reads_the_metrics(server: Any) -> None:
    tei(server, {"inputs": TEXTS})
    with urllib.request.urlopen(server.url + "/metrics", timeout=10) as answer:
        families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
    for name, kind in {
        "coldpress_requests": "counter",
        "coldpress_request_seconds": "histogram",
        "coldpress_queue_cost": "gauge",
        "coldpress_queue_seconds": "histogram",
        "coldpress_batch_items": "histogram",
        "coldpress_batch_seconds": "histogram",
        "coldpress_tokens": "counter",
        "coldpress_search_seconds": "histogram",
    }.items():
        assert families[name].type == kind
    values = {(s.name, *s.labels.values()): s.value for family in families.values() for s in family.samples}
    assert values["coldpress_index_rows",] == 300
    assert values["coldpress_engine_alive",] == 1
    assert values["coldpress_requests_total", "/embed", "200"] >= 1
