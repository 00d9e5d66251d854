"""coldpress's own routes, through `coldpress.Client` and as bare HTTP."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import pytest

from coldpress import Extractor, VectorIndex
from coldpress.errors import ServerError
from coldpress.probes import Head

QUESTIONS = ["how do I open a file", "sort a list of numbers", "a thread waits for a lock"]


def post(server: Any, path: str, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(server.url + path, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def post_json(server: Any, path: str, body: Any) -> tuple[int, Any]:
    status, _, answer = post(server, path, json.dumps(body).encode(), **{"Content-Type": "application/json"})
    return status, json.loads(answer)


def test_vectors_are_those_of_the_extractor_bit_for_bit(server: Any, extractor: Extractor) -> None:
    assert np.array_equal(server.client.embed(QUESTIONS), extractor.embed(QUESTIONS))


def test_a_vector_is_the_same_bits_whatever_it_was_batched_with(server: Any, extractor: Extractor) -> None:
    """Thirty clients at once, whose texts of all lengths meet in batches by chance."""
    texts = [" ".join(["word", "of", "a", "text"] * n) for n in range(1, 31)]
    alone, together = extractor.embed(texts), [np.empty(0)] * 30
    clients = [
        threading.Thread(target=lambda i=i: together.__setitem__(i, server.client.embed([texts[i]] * (1 + i % 3))))
        for i in range(30)
    ]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    for i, rows in enumerate(together):
        assert all(np.array_equal(row, alone[i]) for row in rows), texts[i]
    batches = metric(server, "coldpress_batch_items_count", modality="text")
    assert metric(server, "coldpress_items_total", modality="text") > batches, "nothing was computed together"


def metric(server: Any, name: str, **labels: str) -> float:
    from prometheus_client.parser import text_string_to_metric_families

    with urllib.request.urlopen(server.url + "/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return next(s.value for family in families for s in family.samples if (s.name, s.labels) == (name, labels))


def test_search_by_text_vector_and_key_is_that_of_the_index(server: Any, extractor: Extractor, index: Any) -> None:
    opened, vectors = VectorIndex.open(index), extractor.embed(QUESTIONS)
    scores, keys = opened.search(vectors, 7)
    for found in (server.client.search(QUESTIONS, k=7), server.client.search(vector=vectors, k=7)):
        assert [[hit.key for hit in hits] for hits in found] == keys.tolist()
        np.testing.assert_allclose([[hit.score for hit in hits] for hits in found], scores, atol=1e-6)
    (near,) = server.client.search(key=keys[0, 0], k=3)
    assert [hit.key for hit in near] == opened.search_key(keys[0, 0], 3)[1].tolist()


def test_predictions_come_with_neighbours(server: Any, extractor: Extractor, head: Any, index: Any) -> None:
    vectors, opened = extractor.embed(QUESTIONS), Head.open(head)
    predicted = server.client.predict(QUESTIONS, k=4)
    assert [one.label for one in predicted] == opened.predict(vectors).tolist()
    for one, row in zip(predicted, opened.predict_proba(vectors), strict=True):
        assert one.probabilities == {
            str(c): pytest.approx(p, abs=1e-5) for c, p in zip(opened.classes, row, strict=True)
        }
        assert next(iter(one.probabilities)) == one.label
    keys = VectorIndex.open(index).search(vectors, 4)[1]
    assert [[hit.key for hit in one.neighbours] for one in predicted] == keys.tolist()
    assert [list(one.neighbours) for one in server.client.predict(vector=vectors)] == [[]] * 3


def test_nearest_neighbours_classify_requests(start: Any, extractor: Extractor, neighbours: Any) -> None:
    opened = Head.open(neighbours)
    with start("--head", neighbours) as started:
        predicted = started.client.predict(QUESTIONS)
    expected = opened.predict_proba(extractor.embed(QUESTIONS))
    assert opened.kind == "knn"
    for one, row in zip(predicted, expected, strict=True):
        assert one.label == opened.classes[row.argmax()]
        assert one.probabilities[str(one.label)] == pytest.approx(row.max(), abs=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_go_in_and_out_as_bytes(server: Any, extractor: Extractor, dtype: str) -> None:
    binary = "application/octet-stream"
    body = json.dumps({"text": QUESTIONS}).encode()
    status, headers, answer = post(server, f"/v1/embed?dtype={dtype}", body, Accept=binary)
    vectors = extractor.embed(QUESTIONS).astype(dtype)
    assert (status, headers["x-coldpress-shape"], headers["x-coldpress-dtype"]) == (200, "3,384", dtype)
    assert answer == vectors.tobytes()
    status, _, found = post(server, f"/v1/search?k=2&dtype={dtype}", answer, **{"Content-Type": binary})
    assert status == 200
    expected = server.client.search(vector=vectors, k=2)
    assert [[hit["key"] for hit in one["hits"]] for one in json.loads(found)["results"]] == [
        [hit.key for hit in hits] for hits in expected
    ]


def test_info_says_what_is_served_and_no_path_of_the_server(server: Any, index: Any) -> None:
    info = server.client.info()
    assert (info["model"], info["dim"], info["takes"], info["index"]["rows"]) == (
        "all-MiniLM-L6-v2",
        384,
        ["text"],
        300,
    )
    assert info["fingerprint"] == VectorIndex.open(index).fingerprint.digest
    assert str(index.parent) not in json.dumps(info)


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("/v1/search", {}, 422, "body"),
        ("/v1/search", {"text": "a", "key": "b"}, 422, "text"),
        ("/v1/search", {"text": "a", "k": 0}, 422, "k"),
        ("/v1/search", {"text": 7}, 422, "text"),
        ("/v1/search", {"text": ["a", 7]}, 422, "text[1]"),
        ("/v1/search", {"text": []}, 422, "text"),
        ("/v1/search", {"txt": "a"}, 422, "txt"),
        ("/v1/search", {"vector": [1.0, 2.0]}, 422, "vector"),
        ("/v1/search", {"vector": [float("nan")] * 384}, 422, "vector"),
        ("/v1/search", {"vector": [[1.0] * 384, [1.0] * 383]}, 422, "vector"),
        ("/v1/search", {"key": "nobody"}, 404, "key"),
        ("/v1/search", {"image": "aGVsbG8="}, 422, "image"),
        ("/v1/search", {"image": "no base64!"}, 422, "image"),
        ("/v1/embed", {"vector": [1.0]}, 422, "vector"),
        ("/v1/embed", {"text": ["a"] * 257}, 413, "text"),
        ("/v1/embed", {"text": "a" * 1_000_001}, 413, "text"),
        ("/v1/predict", {"text": "a", "k": -1}, 422, "k"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_by_field(
    server: Any, path: str, body: Any, status: int, field: str
) -> None:
    got, answer = post_json(server, path, body)
    assert (got, answer["error"]["param"]) == (status, field), answer
    assert answer["error"]["message"].startswith(f"{field}: ")
    assert ("no such field here, see /docs" in answer["error"]["message"]) == (
        (path, field) in {("/v1/search", "txt"), ("/v1/embed", "vector")}
    )


def test_bodies_that_are_no_json_or_no_vectors_are_malformed(server: Any) -> None:
    binary = {"Content-Type": "application/octet-stream"}
    for path, body, headers in (
        ("/v1/search", b"{", {}),
        ("/v1/search", b"\xff\xfe", {}),
        ("/v1/search", b'{"text": "half of a pair: \\ud800"}', {}),
        ("/v1/search", b"12345", binary),
        ("/v1/search", b"", binary),
        ("/v1/search?dtype=int4", b"12345", binary),
        ("/v1/search?k=many", bytes(4 * 384), binary),
        ("/v1/search", b"no form", {"Content-Type": "multipart/form-data"}),
        ("/v1/search", b"no form", {"Content-Type": "multipart/form-data; boundary=x"}),
        ("/v1/embeddings", b"{", {}),
    ):
        assert post(server, path, body, **({"Content-Type": "application/json"} | headers))[0] in (400, 422), (
            path,
            body,
        )
    assert post(server, "/v1/embed", b"1234", **binary)[0] == 415


def test_texts_of_any_characters_are_embedded(server: Any, extractor: Extractor) -> None:
    odd = ["", "\x00", "\U0001f600", "e\u0301", "日本語 " * 400]
    status, answer = post_json(server, "/v1/embed", {"text": odd})
    assert status == 200
    assert np.array_equal(np.float32(answer["vectors"]), extractor.embed(odd))
    assert answer["truncated"] == [False] * 4 + [True]


def test_a_client_says_what_the_server_said(server: Any) -> None:
    with pytest.raises(ServerError, match="404: key: key 'nobody' is not among the 300 keys") as error:
        server.client.search(key="nobody")
    assert error.value.status == 404


def test_neighbours_meet_the_conditions_and_bring_what_is_known(server: Any, store: Any, index: Any) -> None:
    label = str(store.metadata.column("label")[0])
    found = server.client.search(QUESTIONS, k=5, where={"label": label})
    assert {hit.metadata["label"] for hits in found for hit in hits} == {label}
    texts = dict(zip(store.keys, store.metadata.column("text").to_pylist(), strict=True))
    assert all(hit.text == texts[hit.key][:400] for hits in found for hit in hits)
    others = server.client.search(QUESTIONS[0], k=300, where={"label": {"!=": label}})[0]
    assert label not in {hit.metadata["label"] for hit in others}
    assert server.client.info()["index"]["columns"] == ["label", "text"]
    assert post_json(server, "/v1/search", {"text": "a", "where": {"colour": "red"}})[1]["error"]["param"] == "where"
    for where in ({}, {"label": {"~": "a"}}, {"label": {"=": [1]}}, "label = a", {"label": {}}, {"source": "/"}):
        assert post_json(server, "/v1/search", {"text": "a", "where": where})[0] == 422, where


def test_the_map_is_of_items_of_the_index(server: Any, store: Any) -> None:
    with urllib.request.urlopen(server.url + "/v1/map", timeout=10) as answer:
        drawn = json.load(answer)
    assert sorted(drawn["keys"]) == sorted(store.keys)
    assert max(map(abs, drawn["x"] + drawn["y"])) == pytest.approx(1, abs=1e-3)
    labels = dict(zip(store.keys, store.metadata.column("label").to_pylist(), strict=True))
    assert drawn["columns"]["label"] == [labels[key] for key in drawn["keys"]]
