"""A server over its life: new indices under load, overload, an engine that dies, the end."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import signal
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coldpress import Client, Extractor, VectorIndex
from coldpress.errors import ServerError
from coldpress.probes import fit_probe
from coldpress.serve import Limits, Metrics, Places, Service, build
from coldpress.store import EmbeddingStore

QUESTIONS = ["how are files opened", "sockets and protocols"]
LONG = "a word and another one " * 60


@contextmanager
def load(work: Callable[[], Any], threads: int = 4) -> Iterator[Counter[str]]:
    """Call `work` over and over from several threads; counts what became of it."""
    outcomes: Counter[str] = Counter()
    done = threading.Event()

    def repeat() -> None:
        while not done.is_set():
            try:
                work()
                outcomes["ok"] += 1
            except Exception as error:
                outcomes[repr(error)] += 1

    started = [threading.Thread(target=repeat) for _ in range(threads)]
    for thread in started:
        thread.start()
    try:
        yield outcomes
    finally:
        done.set()
        for thread in started:
            thread.join()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_new_index_is_taken_up_without_a_failed_request(
    start: Callable[..., Any], index: Path, extractor: Extractor, clip: Path, tmp_path: Path
) -> None:
    live = tmp_path / "live.index"
    shutil.copytree(index, live)
    news = ["something new about birds", "something new about fish"]
    (tmp_path / "news.txt").write_text("\n".join(news))
    grown = VectorIndex.build(extractor.embed_to(tmp_path / "grown.store", tmp_path / "news.txt"))
    pictures = tmp_path / "one.png"
    with start("--index", live) as server:
        client = server.client
        with load(lambda: client.search(["a question", "another"], k=2)) as outcomes:
            wait_for(lambda: outcomes["ok"] > 20)
            for swap in range(6):
                (grown if swap % 2 == 0 else VectorIndex.open(index)).save(live)
                if swap < 4:
                    client._json("/v1/reload", {})
                else:
                    server.process.send_signal(signal.SIGHUP)
                wait_for(lambda rows=2 if swap % 2 == 0 else 300: client.info()["index"]["rows"] == rows)
            before = outcomes["ok"]
            wait_for(lambda: outcomes["ok"] > before + 20)
        assert set(outcomes) == {"ok"}, outcomes

        from PIL import Image

        Image.new("RGB", (40, 40)).save(pictures)
        VectorIndex.build(Extractor(clip).embed_to(tmp_path / "other.store", pictures)).save(live)
        for damage in (lambda: None, lambda: next(live.glob("*.faiss")).write_bytes(b"damaged")):
            damage()
            with pytest.raises(ServerError, match="409: what lies there now cannot be served") as error:
                client._json("/v1/reload", {})
            assert str(tmp_path) not in str(error.value)
            assert client.info()["index"]["rows"] == 300
            assert len(client.search("a question", k=2)[0]) == 2
        assert any("come from different spaces" in line for line in server.said)


def test_a_head_that_is_replaced_while_a_request_comes_in_answers_with_its_own_classes(
    start: Callable[..., Any], store: EmbeddingStore, head: Path, tmp_path: Path
) -> None:
    live = tmp_path / "live.head"
    shutil.copytree(head, live)
    named = [f"new {row % 2}" for row in range(len(store))]
    with start("--head", live) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        body = json.dumps({"text": "a question"}).encode()
        connection.putrequest("POST", "/v1/predict")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:5])
        wait_for(lambda: "coldpress_requests_active 1.0" in metrics_of(server))
        fit_probe(store, named).head.save(live)
        server.client._json("/v1/reload", {})
        connection.send(body[5:])
        (result,) = json.load(connection.getresponse())["results"]
    assert result["label"] in ("new 0", "new 1")
    assert sorted(result["probabilities"]) == ["new 0", "new 1"]


def metrics_of(server: Any) -> str:
    with urllib.request.urlopen(f"{server.url}/metrics") as answer:
        return str(answer.read().decode())


def test_too_much_is_answered_with_429_or_504_and_everything_else_goes_on(
    start: Callable[..., Any], index: Path
) -> None:
    with start("--index", index, "--deadline", 0.5) as server:
        client = Client(server.url, retries=0)
        with load(lambda: client.embed([LONG] * 60), threads=8) as outcomes:
            wait_for(lambda: sum(outcomes.values()) > 30)
        statuses = {outcome.partition("'")[2][:3] for outcome in outcomes if outcome != "ok"}
        assert statuses <= {"429", "504"}, outcomes
        assert "429" in statuses
        assert Client(server.url, retries=5).embed("short").shape == (1, 384)
        assert client.info()["index"]["rows"] == 300


def test_the_end_waits_for_what_is_under_way(start: Callable[..., Any], index: Path) -> None:
    with start("--index", index, "--deadline", 30) as server:
        answers: list[np.ndarray[Any, Any]] = []
        asking = [threading.Thread(target=lambda: answers.append(server.client.embed([LONG] * 15))) for _ in range(4)]
        for thread in asking:
            thread.start()
        wait_for(lambda: b"coldpress_requests_active 4" in _metrics(server))
        server.process.send_signal(signal.SIGTERM)
        for thread in asking:
            thread.join()
        assert [rows.shape for rows in answers] == [(15, 384)] * 4
        assert server.process.wait(20) == 0


def _metrics(server: Any) -> bytes:
    return bytes(server.client._ask("GET", "/metrics", None, "*/*")[0])


async def ask(
    app: Any, method: str, path: str, body: Any = None, *, received: list[Any] | None = None
) -> tuple[int, Any]:
    """One request to an application in this process."""
    sent: list[Any] = []
    content = b"" if body is None else json.dumps(body).encode()
    received = received or [{"type": "http.request", "body": content, "more_body": False}]
    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "http_version": "1.1"}

    async def receive() -> Any:
        return received.pop() if received else await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    await app({**scope, "scheme": "http", "server": ("a", 1), "root_path": ""}, receive, send)
    content = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(content)


def test_health_is_false_when_the_engine_is(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        service = Service(Places(index=index, limits=Limits(deadline_s=5)), Metrics())
        app = build(service)
        await service.start()
        assert await ask(app, "GET", "/health") == (200, {"status": "ok"})
        assert (await ask(app, "POST", "/v1/embed", {"text": "a"}))[0] == 200

        def broken(inputs: Any) -> Any:
            raise RuntimeError("out of everything")

        monkeypatch.setattr(service.encoder.extractor, "compute", broken)
        for _ in range(2):
            status, answer = await ask(app, "POST", "/v1/embed", {"text": "a"})
            assert (status, answer["error"]["message"]) == (503, "the engine cannot compute; see the log of the server")
        assert (await ask(app, "GET", "/health"))[0] == 503
        assert (await ask(app, "GET", "/v1/info"))[0] == 200
        await service.stop()

    asyncio.run(test())


def test_bodies_together_take_no_more_memory_than_is_allowed(index: Path) -> None:
    async def test() -> None:
        limits = Limits(body_bytes=1000, bodies_bytes=1500, deadline_s=1)
        app = build(Service(Places(index=index, limits=limits), Metrics()))
        parts = [{"type": "http.request", "body": bytes(900), "more_body": True}]
        first = asyncio.create_task(ask(app, "POST", "/v1/embed", received=parts))
        await asyncio.sleep(0.05)
        assert app.held_bytes == 900
        assert (await ask(app, "POST", "/v1/embed", {"text": "a" * 700}))[0] == 429
        assert (await ask(app, "POST", "/v1/embed", {"text": "a" * 1100}))[0] == 413
        assert (await first)[0] == 408
        assert app.held_bytes == 0

    asyncio.run(test())


def test_what_goes_together_is_checked_at_the_start(index: Path, head: Path, clip: Path) -> None:
    from coldpress import ColdpressError, FingerprintMismatch

    with pytest.raises(ColdpressError, match="nothing to serve"):
        Service(Places(), Metrics())
    with pytest.raises(FingerprintMismatch, match="different spaces"):
        Service(Places(model=str(clip), index=index), Metrics())


def test_a_head_gets_the_output_that_it_has_learned_from(texts: Path, tmp_path: Path) -> None:
    from coldpress import ColdpressError
    from coldpress.data import Columns
    from coldpress.probes import Recipe, fit_probe

    both = Extractor("all-MiniLM-L6-v2", precision="fp32", output="pooled,layer:3")
    store = both.embed_to(tmp_path / "store", texts, columns=Columns(key="key", label="label"))
    head = fit_probe(store, "label", recipe=Recipe(outputs=("layer:3",))).head
    head.save(tmp_path / "head")
    VectorIndex.build(store).save(tmp_path / "index")
    with pytest.raises(
        ColdpressError, match="learned from output layer:3, this server computes pooled, which the index"
    ):
        Service(Places(index=tmp_path / "index", head=tmp_path / "head"), Metrics())

    async def classes() -> Any:
        service = Service(Places(head=tmp_path / "head"), Metrics())
        await service.start()
        embedded = await service.embed("text", QUESTIONS, "text")
        predicted = await service.predict(embedded.vectors)
        await service.stop()
        return predicted.probabilities

    np.testing.assert_allclose(asyncio.run(classes()), head.predict_proba(both.embed(QUESTIONS)[:, 384:]), atol=1e-5)
