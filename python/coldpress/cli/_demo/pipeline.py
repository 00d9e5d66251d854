"""What the demo does: embed a corpus, index it, ask it, learn from it, draw it. What it shows is in `demo.py`."""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from coldpress import Columns, EmbeddingStore, Extractor, VectorIndex
from coldpress.cli._demo import corpus
from coldpress.cli._demo.corpus import Paragraph
from coldpress.probes import ProbeResult, fit_probe
from coldpress.probes.projection import project
from coldpress.report import sections, write_page
from coldpress.report.figures import graph_objects
from coldpress.report.sections import Hit

if TYPE_CHECKING:
    from coldpress.engine import Progress, Summary

MODEL = "all-MiniLM-L6-v2"
QUESTIONS = (
    "How do I run a program and read its output?",
    "turn a picture upside down",
    "pick a winner by chance",
    "how fast is this piece of code?",
    "unpack a compressed archive",
)
HITS = 3
CLASSES = 12
MIN_PER_CLASS = 10
MAP_ROWS = 2000
MAP_COLOURED = 1500


@dataclass(frozen=True)
class Demo:
    """Everything that came out."""

    out: Path
    paragraphs: int
    modules: int
    summary: Summary
    answers: Mapping[str, list[Hit]]
    probe: ProbeResult
    steps: dict[str, float] = field(default_factory=dict)

    @property
    def report(self) -> Path:
        """The HTML file."""
        return self.out / "report.html"

    @property
    def seconds(self) -> float:
        """Of all steps together."""
        return sum(self.steps.values())


def run_demo(
    out: Path, limit: int, *, on_step: Callable[[str], None], on_progress: Callable[[int], Callable[[Progress], None]]
) -> Demo:
    """Run the demo into the directory `out`. One that was interrupted continues; one that was finished starts over.

    `on_step` is told what begins; `on_progress` gets the number of texts and returns what is called as they are
    embedded.

    Raises
    ------
    MissingExtra
        Before any work, if the packages of the extra ``demo`` are not installed.
    """
    steps: dict[str, float] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        on_step(name)
        started = time.perf_counter()
        yield
        steps[name] = round(time.perf_counter() - started, 3)

    graph_objects()
    with step("load the model"):
        extractor = Extractor(MODEL)
    with step("collect the corpus"):
        paragraphs = corpus.collect(limit)
        source = _write_corpus(out, paragraphs)
    with step("embed"):
        columns = Columns(text="text", key="key", label="label")
        summary = extractor.run(out / "store", source, columns=columns, on_progress=on_progress(len(paragraphs)))
    store = EmbeddingStore(out / "store")
    texts = {paragraph.key: paragraph.text for paragraph in paragraphs}
    with step("index and ask"):
        index = VectorIndex.build(store)
        index.save(out / "index")
        answers = _ask(extractor, index, texts)
    classes = _classes(paragraphs)
    with step("train the probe"):
        labels = {paragraph.key: paragraph.label for paragraph in paragraphs if paragraph.label in classes}
        with _quiet("coldpress.probes"):  # it would warn that the other modules have no label
            probe = fit_probe(store, labels)
        probe.head.save(out / "head")
    demo = Demo(out, len(paragraphs), len({p.label for p in paragraphs}), summary, answers, probe, steps)
    with step("draw the map"):
        points, rows = _map(store, paragraphs, classes)
    with step("write the report"):
        _write_report(demo, points, [paragraphs[row] for row in rows], classes)
    return demo


def _write_corpus(out: Path, paragraphs: list[Paragraph]) -> Path:
    """The corpus file. A store of an earlier demo is kept only if it is an interrupted run over the very same."""
    out.mkdir(parents=True, exist_ok=True)
    source, store = out / "corpus.jsonl", out / "store"
    before = source.read_bytes() if source.is_file() else None
    corpus.write(source, paragraphs)
    if (store / "manifest.json").is_file():
        earlier = EmbeddingStore(store)
        if earlier.complete or earlier.source != str(source) or before != source.read_bytes():
            shutil.rmtree(store)
    return source


def _ask(extractor: Extractor, index: VectorIndex, texts: Mapping[str, str]) -> dict[str, list[Hit]]:
    scores, keys = index.search(extractor.embed(QUESTIONS), k=HITS)
    return {
        question: [Hit(float(score), key, texts[key]) for score, key in zip(*found, strict=True)]
        for question, *found in zip(QUESTIONS, scores, keys, strict=True)
    }


def _classes(paragraphs: list[Paragraph]) -> list[str]:
    """The modules with the most paragraphs; the first ones where there are equally many."""
    counts = Counter(paragraph.label for paragraph in paragraphs)
    return [label for label, number in counts.most_common(CLASSES) if number >= MIN_PER_CLASS]


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _map(
    store: EmbeddingStore, paragraphs: list[Paragraph], classes: list[str]
) -> tuple[npt.NDArray[np.float32], list[int]]:
    """Points (N, 2) and their paragraphs: mostly of the modules in `classes`, which are coloured."""
    coloured = [row for row, paragraph in enumerate(paragraphs) if paragraph.label in classes][:MAP_COLOURED]
    others = [row for row, paragraph in enumerate(paragraphs) if paragraph.label not in classes]
    rows = sorted(coloured + others[: MAP_ROWS - len(coloured)])
    matrix = np.asarray(store.embeddings[np.asarray(rows)], dtype=np.float32)
    return project(matrix), rows


def _write_report(demo: Demo, points: npt.NDArray[np.float32], shown: list[Paragraph], classes: list[str]) -> None:
    summary, evaluation = demo.summary, demo.probe.evaluation
    parts = [
        sections.throughput(summary),
        *([sections.certificate(summary.certificate, summary.precision_reason)] if summary.certificate else []),
        sections.questions(demo.answers),
        sections.embedding_map(
            points,
            [paragraph.label for paragraph in shown],
            [paragraph.key for paragraph in shown],
            [paragraph.text for paragraph in shown],
            classes,
        ),
        sections.probe(evaluation, demo.probe.train_items, demo.probe.head.title),
        sections.confusion(evaluation),
    ]
    write_page(
        demo.report,
        title="What a frozen model knows about your Python",
        lead=(
            f"{demo.paragraphs:,} paragraphs of documentation from {demo.modules} modules of this Python installation, "
            f"embedded by {MODEL}, searched by meaning and classified: without a network, without training the model."
        ),
        numbers={
            "paragraphs embedded": f"{summary.rows:,}",
            "a second": f"{summary.rows_per_s:,.0f}",
            "mean cosine with fp32": f"{summary.certificate.cosine_mean:.6f}" if summary.certificate else "–",
            f"accuracy over {len(classes)} modules": f"{evaluation.accuracy:.1%}",
        },
        sections=parts,
        data={"embed": summary.to_json(), "probe": demo.probe.to_json()},
    )
