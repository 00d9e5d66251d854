from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coldpress.cli._demo import corpus
from coldpress.errors import ColdpressError
from coldpress.probes.projection import project

Cli = Callable[..., Any]

SECTIONS = (
    "Throughput by stage",
    "Fidelity certificate",
    "Questions answered",
    "Embedding map",
    "Linear probe",
    "Confusion matrix",
)


def test_demo_writes_a_report_and_runs_again(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = cli("demo", "--out", out, "--limit", 150, "--json")
    assert done.code == 0, done.err
    assert (done.json["paragraphs"], done.json["modules"]) == (150, 6)
    assert done.json["embed"]["failed"] == 0
    assert done.json["probe"]["evaluation"]["accuracy"] > 0.5
    report = (out / "report.html").read_text()
    assert all(f"<h2>{title}</h2>" in report for title in SECTIONS)
    assert "prefers-color-scheme" in report
    assert "<noscript>" in report
    assert "src=" not in report.replace(_plotly(report), "")
    again = cli("demo", "--out", out, "--limit", 120)
    assert again.code == 0, again.err
    assert "120 paragraphs" in again.out
    assert str(out / "report.html") in again.out


def _plotly(report: str) -> str:
    """The script in the head."""
    return report[report.index("<script>") : report.index("</head>")]


def test_corpus_is_the_same_every_time_and_has_no_repetition(tmp_path: Path) -> None:
    paragraphs = corpus.collect(200)
    assert len(paragraphs) == 200
    assert len({paragraph.key for paragraph in paragraphs}) == 200
    assert len({paragraph.text.lower() for paragraph in paragraphs}) == 200
    assert corpus.collect(200) == paragraphs
    corpus.write(tmp_path / "corpus.jsonl", paragraphs)
    lines = (tmp_path / "corpus.jsonl").read_text().splitlines()
    assert json.loads(lines[0]).keys() == {"key", "text", "label"}


def test_collecting_the_corpus_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """turtle is documented in the corpus; importing it would need a display."""
    import sys

    monkeypatch.delitem(sys.modules, "turtle", raising=False)
    assert any(paragraph.label == "turtle" for paragraph in corpus.collect(200))
    assert "turtle" not in sys.modules


def test_projection_keeps_clusters_together() -> None:
    rng = np.random.default_rng(0)
    centres, groups = rng.normal(size=(3, 32)) * 5, np.repeat(np.arange(3), 40)
    vectors = centres[groups] + rng.normal(size=(120, 32))
    points = project(vectors)
    assert points.shape == (120, 2)
    np.testing.assert_array_equal(points, project(vectors))
    middle = np.stack([points[groups == group].mean(axis=0) for group in range(3)])
    nearest = np.linalg.norm(points[:, None] - middle, axis=2).argmin(axis=1)
    assert (nearest == groups).mean() > 0.95


def test_projection_of_too_few_vectors_is_refused() -> None:
    with pytest.raises(ColdpressError, match="got 3"):
        project(np.zeros((3, 8)))
