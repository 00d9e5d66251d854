"""How good the vectors of an engine are, beside its speed: against fp32, and on a task."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr
from text_peers import Embed

from coldpress.engine.certificate import neighbour_overlap

STSB = Path(__file__).resolve().parents[2] / "shared" / "data" / "text" / "stsb" / "test.jsonl"


def fidelity(embed: Embed, texts: list[str], reference: npt.NDArray[np.float32]) -> dict[str, float]:
    """Cosine to `reference` (N, D), share of its 10 nearest neighbours kept, and Spearman on STS-B where it is."""
    vectors = embed(texts)
    cosine = (vectors * reference).sum(axis=1)
    found = {
        "cosine_mean": float(cosine.mean()),
        "cosine_min": float(cosine.min()),
        "overlap": neighbour_overlap(vectors.astype(np.float64), reference.astype(np.float64), 10),
    }
    return found | ({"stsb": stsb(embed)} if STSB.is_file() else {})


def stsb(embed: Embed) -> float:
    """100 times the rank correlation of similarity and human score, on the 900 pairs that are shared."""
    pairs = [json.loads(line) for line in STSB.read_text(encoding="utf-8").splitlines()]
    first, second = (embed([pair[side] for pair in pairs]) for side in ("sentence1", "sentence2"))
    return float(100 * spearmanr((first * second).sum(axis=1), [pair["score"] for pair in pairs]).statistic)
