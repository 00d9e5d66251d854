"""Real texts and photos, embedded by real networks, once for all tests."""

from __future__ import annotations

import json

import pytest

from coldpress import Extractor


@pytest.fixture(scope="session")
def news(shared, tmp_path_factory):
    """A file of 500 news texts with four labels; every other one in capitals, which MiniLM cannot see."""
    path = tmp_path_factory.mktemp("news") / "news.jsonl"
    lines = (shared / "text" / "ag_news" / "train.jsonl").read_text().splitlines()[:500]
    rows = [json.loads(line) for line in lines]
    for number, row in enumerate(rows):
        row["case"] = "upper" if number % 2 else "lower"
        row["text"] = row["text"].upper() if number % 2 else row["text"].lower()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def news_store(news, minilm, tmp_path_factory):
    from coldpress.data import Columns

    extractor = Extractor(minilm, device="cpu", precision="fp32", output="pooled,layer:1")
    return extractor.embed_to(
        tmp_path_factory.mktemp("stores") / "news", news, dtype="float32", columns=Columns(metadata=("case",))
    )
