"""embed, index, search, probe, predict, info and certify, one on what the other made."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from coldpress import EmbeddingStore, Extractor
from coldpress.data import MemorySource

Cli = Callable[..., Any]


def test_embed_reports_what_it_did(cli: Cli, embedding: list[str], tmp_path: Path) -> None:
    done = cli(*embedding, "--out", tmp_path / "out", "--limit", 20, "--json")
    assert done.code == 0
    expected = {"rows", "failed", "duplicates", "inputs", "seconds", "rows_per_s", "precision", "certificate", "stages"}
    assert expected <= done.json.keys()
    assert (done.json["rows"], done.json["failed"]) == (20, 0)
    assert done.json["certificate"]["passed"]


def test_embed_tells_people_the_same(cli: Cli, embedding: list[str], tmp_path: Path) -> None:
    done = cli(*embedding, "--out", tmp_path / "out", "--limit", 20)
    for words in ("20 vectors", "certificate", "compute", "coldpress index"):
        assert words in done.out
    assert "limits this run" not in done.out  # of a second or two


def test_embed_again_has_nothing_to_do(cli: Cli, embedding: list[str], store: Path) -> None:
    assert "complete already" in cli(*embedding, "--out", store).out


def test_embed_goes_on_after_an_interruption(
    cli: Cli, embedding: list[str], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coldpress.cli._progress import ProgressDisplay

    def interrupt(display: ProgressDisplay, progress: Any) -> None:
        if progress.done >= 60:
            raise KeyboardInterrupt

    arguments = [*embedding, "--out", tmp_path / "out", "--shard-rows", 20]
    with monkeypatch.context() as patch:
        patch.setattr(ProgressDisplay, "__call__", interrupt)
        stopped = cli(*arguments)
    assert stopped.code == 130
    safe = EmbeddingStore(tmp_path / "out").inputs
    assert f"interrupted: {safe} inputs are safe in {tmp_path / 'out'}" in stopped.err
    finished = cli(*arguments, "--json").json
    assert (finished["rows"], finished["resumed"]) == (100, safe)
    again = EmbeddingStore(tmp_path / "out").embeddings
    np.testing.assert_array_equal(np.asarray(again), np.asarray(EmbeddingStore(store).embeddings))


def test_another_fingerprint_is_refused_with_what_differs(cli: Cli, embedding: list[str], store: Path) -> None:
    done = cli(*embedding, "--out", store, "--prompt", "passage: ")
    assert done.code == 1
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert done.err.startswith("coldpress: error: ")
    assert "preprocessing.prompt: '' != 'passage: '" in done.err


def test_index_says_how_good_it_is(cli: Cli, store: Path, tmp_path: Path) -> None:
    made = cli("index", store, "--out", tmp_path / "index", "--metric", "dot", "--json").json
    assert (made["rows"], made["kind"], made["metric"]) == (100, "exact", "dot")
    assert made["settings"]["recall_at_10"] == made["certificate"]["recall_at_10"] == 1.0


def test_an_index_that_does_not_fit_is_refused(cli: Cli, store: Path, tmp_path: Path) -> None:
    done = cli("index", store, "--out", tmp_path / "index", "--memory", "10KB")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "an index of 100 x 384 takes" in done.err
    assert not (tmp_path / "index").exists()
    assert cli("index", store, "--out", tmp_path / "index", "--memory", "much").code == 2


def test_an_index_is_planned_and_updated(cli: Cli, store: Path, embedding: list[str], tmp_path: Path) -> None:
    out = ("--out", tmp_path / "index")
    assert cli("index", store, *out, "--plan", "--json").json["factory"] == "Flat"
    assert "An index of 100 vectors" in cli("index", store, *out, "--plan").out
    assert cli("index", store, *out, "--update").code == 1  # there is none
    cli("index", store, *out)
    updated = cli("index", store, *out, "--update", "--json").json
    assert (updated["rows"], updated["certificate"]["reference"]) == (100, "index")
    assert "compact" in updated["advice"]
    assert cli("index", store, *out, "--update", "--kind", "ivf").code == 2
    cli(*embedding, "--prompt", "query: ", "--out", tmp_path / "other")
    done = cli("index", tmp_path / "other", *out, "--update")
    assert done.code == 1
    assert "preprocessing.prompt: '' != 'query: '" in done.err


def test_several_stores_become_one_index(cli: Cli, embedding: list[str], tmp_path: Path) -> None:
    lines = [json.dumps({"key": f"new {i}", "text": f"how to bake bread, page {i}"}) for i in range(20)]
    (tmp_path / "new.jsonl").write_text("\n".join(lines), "utf-8")
    store, more, out = tmp_path / "store", tmp_path / "new.store", ("--out", tmp_path / "index")
    assert cli(*embedding, "--precision", "fp32", "--out", store).code == 0
    more_texts = ("embed", tmp_path / "new.jsonl", *embedding[2:6], "--precision", "fp32")
    assert cli(*more_texts, "--out", more).code == 0
    assert cli("index", store, more, *out, "--kind", "ivf", "--processes", 2, "--json").json["rows"] == 120
    found = cli("search", tmp_path / "index", "--text", "baking a loaf", "-k", 3, "--json").json["hits"]
    assert all(hit["key"].startswith("new ") for hit in found)
    assert cli("index", store, more, *out, "--json").json["kind"] == "exact"
    assert cli("index", store, more, *out, "--update", "--json").json["rows"] == 120
    assert cli("index", store, more, *out, "--map").code == 2
    done = cli("index", more, more, *out)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "20 keys are in more than one row of the stores" in done.err


def test_search_by_text_finds_the_meaning(cli: Cli, index: Path, store: Path) -> None:
    found = cli("search", index, "--text", "compose an electronic letter", "-k", 3, "--store", store, "--json").json
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3]
    assert {hit["label"] for hit in found["hits"]} == {"email"}
    assert all(hit["text"] for hit in found["hits"])


def test_search_among_those_that_meet_a_condition(cli: Cli, index: Path) -> None:
    asked = ("search", index, "--text", "compose an electronic letter", "-k", 40, "--where")
    found = cli(*asked, "label = asyncio", "--json").json
    assert found["where"] == ["label = asyncio"]
    assert {hit["label"] for hit in found["hits"]} == {"asyncio"}
    assert "asyncio" in cli(*asked, "label = asyncio").out
    assert cli(*asked, "label = nothing").out == "Nothing meets the conditions.\n"
    done = cli(*asked, "colour = red")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "no metadata column 'colour', expected one of: key, source" in done.err


def test_search_shows_what_was_kept_by_its_own_name(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("text,topic,day\na cup of tea,kitchen,1\nrain tomorrow,weather,2\n")
    out = tmp_path / "notes.store"
    kept = ("--label-column", "topic", "--metadata-column", "day")
    assert cli("embed", tmp_path / "notes.csv", "--model", "all-MiniLM-L6-v2", "--out", out, *kept).code == 0
    assert cli("index", out, "--out", tmp_path / "index").code == 0
    asked = ("search", tmp_path / "index", "--text", "tea", "-k", 1)
    (hit,) = cli(*asked, "--json").json["hits"]
    assert (hit["topic"], hit["day"], hit["rank"]) == ("kitchen", "1", 1)
    assert cli(*asked).out.split()[:4] == ["score", "key", "topic", "day"]
    assert cli(*asked, "--store", out, "--json").json["hits"][0]["text"] == "a cup of tea"


def test_search_by_key_leaves_the_item_itself_out(cli: Cli, index: Path, store: Path) -> None:
    key = EmbeddingStore(store).keys[0]
    found = cli("search", index, "--key", key, "-k", 5, "--json").json["hits"]
    assert len(found) == 5
    assert key not in {hit["key"] for hit in found}


def test_search_refuses_what_the_model_does_not_take(cli: Cli, index: Path) -> None:
    done = cli("search", index, "--image", "photo.jpg")
    assert done.code == 2
    assert "--text" in done.err


def test_probe_gives_accuracy_with_its_interval(cli: Cli, store: Path, tmp_path: Path) -> None:
    done = cli("probe", store, "--labels", "label", "--out", tmp_path / "head", "--seed", 1)
    assert done.code == 0
    for words in ("accuracy", "95 % interval", "balanced accuracy", "majority baseline", "chosen among", "asyncio"):
        assert words in done.out


def test_probe_on_a_test_store(cli: Cli, store: Path, tmp_path: Path) -> None:
    arguments = ("probe", store, "--labels", "label", "--test-store", store, "--C", "1", "--out", tmp_path / "head")
    report = cli(*arguments, "--json").json
    assert (report["setting"], report["test_items"]) == (1.0, 100)
    assert report["shared_content"] == 100


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_predict_a_store_into_a_file(cli: Cli, head: Path, store: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"predictions{suffix}"
    done = cli("predict", head, store, "--out", out, "--json")
    assert done.json["rows"] == 100
    rows = {
        ".csv": lambda: list(csv.DictReader(out.open())),
        ".jsonl": lambda: [json.loads(line) for line in out.open()],
        ".parquet": lambda: pq.read_table(out).to_pylist(),
    }[suffix]()
    assert [row["key"] for row in rows] == list(EmbeddingStore(store).keys)
    assert {row["prediction"] for row in rows} <= {"asyncio", "email", "logging", "unittest"}


def test_predict_a_source_equals_predicting_its_store(cli: Cli, head: Path, store: Path, texts: Path) -> None:
    columns = ("--key-column", "key", "--text-column", "text")
    embedded = cli("predict", head, texts, *columns, "--json").json["predictions"]
    stored = cli("predict", head, store, "--json").json["predictions"]
    assert embedded == stored


def test_predict_shows_rows_and_shares(cli: Cli, head: Path, store: Path) -> None:
    shown = cli("predict", head, store).out
    assert "and 80 more rows" in shown
    assert "share" in shown


def test_options_for_sources_are_not_ignored_for_a_store(cli: Cli, head: Path, store: Path) -> None:
    assert cli("predict", head, store, "--limit", 5).code == 2


def test_certify(cli: Cli, texts: Path) -> None:
    done = cli("certify", "all-MiniLM-L6-v2", "--data", texts, "--samples", 16, "--text-column", "text", "--json")
    assert done.code == 0
    assert (done.json["samples"], done.json["passed"]) == (16, True)


def test_info_recognises_everything(cli: Cli, store: Path, index: Path, head: Path) -> None:
    things = {"store": store, "index": index, "head": head, "model": "all-MiniLM-L6-v2"}
    for kind, thing in things.items():
        assert cli("info", thing, "--json").json["kind"] == kind
        assert cli("info", thing).out.startswith(kind)
    assert cli("info", "all-MiniLM-L6-v2", "--json").json["dim"] == 384


def test_info_about_the_machine(cli: Cli) -> None:
    machine = cli("info", "--json").json
    assert machine["devices"][0] == "cpu"
    assert "fp32" in machine["precisions"]
    assert "instructions" in cli("info").out


def test_what_a_store_leads_to_has_its_layers(cli: Cli, minilm: Path, tmp_path: Path) -> None:
    layers = {"blocks.0.mlp.up": "fp32", "blocks.4.attention.out": "int16"}
    texts = [f"number {i} is {i * i}" for i in range(60)]
    extractor = Extractor(minilm, device="cpu", precision="int8", layer_precision=layers)
    extractor.run(tmp_path / "store", MemorySource(texts, "text"))
    shown = cli("info", tmp_path / "store").out
    assert "int8 with 1 layer in fp32 and 1 layer in int16" in shown
    assert cli("index", tmp_path / "store", "--out", tmp_path / "index").code == 0
    found = cli("search", tmp_path / "index", "--text", texts[7], "-k", 1, "--json")
    assert found.code == 0, found.err


def test_an_index_may_have_a_map(cli: Cli, store: Path, tmp_path: Path) -> None:
    assert cli("index", store, "--out", tmp_path / "mapped", "--map").code == 0
    assert sorted(pq.read_table(tmp_path / "mapped" / "map.parquet")["key"].to_pylist()) == sorted(
        EmbeddingStore(store).keys
    )


def test_a_new_key_is_shown_once(cli: Cli, tmp_path: Path) -> None:
    from coldpress.serve.keys import owner_of, read_keys

    made = cli("serve", "--new-key", "alice", "--api-keys", tmp_path / "keys.txt", "--json")
    assert owner_of(made.json["key"], read_keys(tmp_path / "keys.txt")) == "alice"
    again = cli("serve", "--new-key", "alice", "--api-keys", tmp_path / "keys.txt")
    assert again.code == 1
    assert "has a key of 'alice' already" in again.err


def test_numbers_that_json_does_not_know_are_null(cli: Cli, tmp_path: Path) -> None:
    source, store, index = (tmp_path / name for name in ("notes.jsonl", "notes.store", "notes.index"))
    source.write_text('{"text": "one", "label": 1.5}\n{"text": "two", "label": NaN}\n')
    assert cli("embed", source, "--model", "all-MiniLM-L6-v2", "--label-column", "label", "--out", store).code == 0
    assert cli("index", store, "--out", index).code == 0
    line = cli("search", index, "--key", "notes.jsonl:1", "--json").out.splitlines()[-1]
    (hit,) = json.loads(line, parse_constant=pytest.fail)["hits"]
    assert hit == {"rank": 1, "score": hit["score"], "key": "notes.jsonl:2", "label": None}
