"""What is asked is compared with what was asked before, beside the requests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from coldpress import Client, Extractor
from coldpress.cli._demo import corpus as documentation
from coldpress.data import Columns
from coldpress.serve import Metrics
from coldpress.serve.watch import PER_REQUEST, WAITING, DriftWatch
from coldpress.types import Fingerprint

WINDOW = 20
SPACE = Fingerprint({"weights": "abc"})


def vectors(rows: int, seed: int, shift: float = 0.0) -> Any:
    return np.random.default_rng(seed).normal(shift, 1, (rows, 6)).astype(np.float32)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def watch() -> Iterator[DriftWatch]:
    made = DriftWatch(SPACE, 6, 50, Metrics().drift("text"))
    made.start()
    yield made
    made.stop()


def ask(watch: DriftWatch, count: int, seed: int, shift: float = 0.0) -> None:
    """Offer windows of queries, each when the one before has been looked at."""
    for i in range(count):
        before = watch.describe().get("windows", -1)
        for row in vectors(50 if before >= 0 else 200, seed + i, shift):
            watch.offer(row[None])
            time.sleep(0.0002)
        wait_for(lambda before=before: watch.describe().get("windows", -1) > before)


def test_the_first_queries_are_what_later_ones_are_compared_with(watch: DriftWatch) -> None:
    assert watch.describe()["state"] == "learning"
    ask(watch, 3, 20)
    found = watch.describe()
    assert (found["state"], found["windows"], found["alarms"], found["alarm"]) == ("watching", 2, 0, False)
    assert found["reference"] == "the first 200 queries"
    ask(watch, 1, 10, shift=1.0)
    found = watch.describe()
    assert (found["alarms"], found["alarm"], len(found["history"])) == (1, True, 3)
    assert found["statistic"] > found["threshold"]


def test_a_request_never_waits_and_counts_for_little() -> None:
    metrics = Metrics()
    idle = DriftWatch(SPACE, 6, 5000, metrics.drift("text"))  # not started: nothing is taken from its queue
    begun = time.perf_counter()
    for _ in range(WAITING + 7):
        idle.offer(vectors(100, 0))
    assert time.perf_counter() - begun < 5
    assert idle.describe()["dropped_requests"] == 7
    assert b'coldpress_drift_dropped_total{modality="text"} 7.0' in metrics.text()
    idle.start()
    idle.stop()
    assert idle.describe()["pending"] == WAITING * min(PER_REQUEST, 100)


def test_what_breaks_a_window_does_not_break_the_watch(watch: DriftWatch, caplog: pytest.LogCaptureFixture) -> None:
    watch.offer(np.zeros((2, 7), np.float32))
    ask(watch, 2, 20)
    assert watch.describe()["windows"] == 1
    assert "a window was lost" in caplog.text


def gauges(client: Client) -> dict[str, float]:
    answer, _ = client._ask("GET", "/metrics", None, "text/plain")
    samples = [one for family in text_string_to_metric_families(answer.decode()) for one in family.samples]
    return {one.name: one.value for one in samples if one.name.startswith("coldpress_drift")}


def some_texts(texts: Path) -> list[str]:
    return [json.loads(line)["text"] for line in texts.read_text().splitlines()]


def embed_all(client: Client, texts: list[str]) -> None:
    for start in range(0, len(texts), PER_REQUEST):
        client.embed(texts[start : start + PER_REQUEST])


def test_a_server_learns_watches_and_remembers(
    start: Callable[..., Any], index: Path, texts: Path, tmp_path: Path
) -> None:
    options = ("--index", index, "--drift", tmp_path / "kept", "--drift-window", WINDOW)
    known = some_texts(texts)
    order = np.random.default_rng(0).permutation(len(known))
    with start(*options) as server:
        embed_all(server.client, [known[i] for i in order[:40]])
        for i in order[40:80]:
            server.client.search(known[i], k=1)
        wait_for(lambda: server.client.drift()["text"]["state"] == "watching")
    with start(*options) as server:
        assert server.client.drift()["text"]["state"] == "watching"
        assert gauges(server.client)["coldpress_drift_window_items"] == WINDOW
        embed_all(server.client, [f"{i} {i + 1} {i + 2}" for i in range(24)])
        wait_for(lambda: server.client.drift()["text"]["windows"] == 1)
        found = server.client.drift()["text"]
        assert found["alarm"]
        told = gauges(server.client)
        assert told["coldpress_drift_alarm"] == told["coldpress_drift_alarms_total"] == 1
        assert told["coldpress_drift_statistic"] == pytest.approx(found["statistic"])
        assert told["coldpress_drift_statistic"] > told["coldpress_drift_threshold"]
        wait_for(lambda: any("differ from the first 80 queries" in line for line in server.said))


def test_queries_are_compared_with_a_store_of_the_operator(
    start: Callable[..., Any], index: Path, texts: Path, extractor: Extractor, store: Any, tmp_path: Path
) -> None:
    with start("--index", index, "--drift", store.path, "--drift-window", WINDOW) as server:
        found = server.client.drift()["text"]
        assert (found["state"], found["reference"]) == ("watching", "300 vectors given by the operator")
        rows = np.asarray(store.embeddings)[:24].astype(np.float32)
        for row in rows:
            server.client.search(vector=row, k=1)
        wait_for(lambda: server.client.drift()["text"]["windows"] == 1)


def test_what_queries_cannot_be_compared_with_is_refused(
    cli_refusal: Callable[..., str], index: Path, photo_index: Path, texts: Path, tmp_path: Path
) -> None:
    other = Extractor("all-MiniLM-L6-v2", precision="fp32", layers=2)
    documentation.write(tmp_path / "few.jsonl", documentation.collect(60))
    shallow = other.embed_to(tmp_path / "other.store", tmp_path / "few.jsonl", columns=Columns(key="key"))
    for place, message in (
        (shallow.path, "come from different spaces"),
        (texts, "is neither a store nor a place for a baseline"),
        (texts.parent, "is neither a store nor a place for a baseline"),
        (photo_index.with_suffix(".store"), "holds images, which this server does not take"),
    ):
        assert message in cli_refusal("serve", "--index", index, "--drift", place)


@pytest.fixture
def cli_refusal() -> Callable[..., str]:
    """Run a command that must fail, and return its one line."""
    import subprocess
    import sys

    def run(*arguments: object) -> str:
        command = [sys.executable, "-m", "coldpress", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr.splitlines()[-1]

    return run
