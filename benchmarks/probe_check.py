"""Does a script that knows nothing of coldpress get the accuracies that coldpress reports, on the same vectors?

    python benchmarks/probe_check.py --data ../shared/data [--work DIRECTORY] [--only ag_news ...]

coldpress embeds the shared labelled sets and trains its heads on their training parts, by command line. The script
then reads the vectors (npy) and labels (parquet) of these stores with numpy and pyarrow, trains scikit-learn's
LogisticRegression and nearest neighbours on them, each with its setting chosen in cross-validation of its own, and
resamples its test items: the accuracies of coldpress have to lie within its 95 % intervals. Works on from the stores
of an earlier run in the same directory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

MINILM, MOBILENET = "all-MiniLM-L6-v2", "models/mobilenet_v2_1.0_224_imagenet"
SETS: dict[str, tuple[str, list[str], list[str]]] = {
    "ag_news": (MINILM, ["text/ag_news/train.jsonl"], ["text/ag_news/test.jsonl"]),
    "trec6": (MINILM, ["text/trec6/train.jsonl"], ["text/trec6/test.jsonl"]),
    "sst2": (MINILM, ["text/sst2/train.jsonl"], ["text/sst2/dev.jsonl"]),
    "hymenoptera": (MOBILENET, ["hymenoptera/train"], ["hymenoptera/val"]),
    "cifar10": (
        MOBILENET,
        [f"cifar10/cifar10-train-{n:06d}.tar" for n in range(5)],
        ["cifar10/cifar10-test-000000.tar"],
    ),
}
COSTS = 10.0 ** np.arange(-3, 6)
NEIGHBOURS, TEMPERATURE, RESAMPLES = (10, 20, 100, 200), 0.07, 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the shared data")
    parser.add_argument("--work", type=Path, default=Path("probe-check"), help="where stores and heads are kept")
    parser.add_argument("--only", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "probe_check.json")
    options = parser.parse_args()
    rows = [row for name in options.only for row in check(name, options.data, options.work)]
    for row in rows:
        low, high = row["interval"]
        print(
            f"{row['set']:12s} {row['head']:9s} coldpress {row['coldpress']:.4f} ({row['coldpress_setting']:g})"
            f"  script {row['script']:.4f} ({row['script_setting']:g})  [{low:.4f}, {high:.4f}]"
            f"  {'within' if row['within'] else 'OUTSIDE'}"
        )
    machine = {"cpu": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    found = {"machine": machine, "question": __doc__.splitlines()[0], "rows": rows}
    options.json.write_text(json.dumps(found, indent=1) + "\n")


def check(name: str, data: Path, work: Path) -> list[dict[str, Any]]:
    """Both heads on one set, by both."""
    model, train, test = SETS[name]
    place = model if model == MINILM else str(data / model)
    stores = []
    for part, sources in (("train", train), ("test", test)):
        stores.append(work / f"{name}-{part}.store")
        named = [str(data / source) for source in sources]
        coldpress("embed", *named, "--model", place, "--precision", "fp32", "--out", str(stores[-1]))
    (X, y), (X_test, y_test) = read(stores[0]), read(stores[1])
    rows = []
    for head, theirs in (("logistic", logistic), ("knn", neighbours)):
        out = work / f"{name}-{head}.head"
        asked = ("--labels", "label", "--test-store", str(stores[1]), "--head", head, "--out", str(out))
        ours = coldpress("probe", str(stores[0]), *asked)
        predicted, setting = theirs(X, y, X_test)
        right = predicted == y_test
        rng = np.random.default_rng(0)
        means = [right[rng.integers(0, len(right), len(right))].mean() for _ in range(RESAMPLES)]
        low, high = np.quantile(means, (0.025, 0.975))
        accuracy = ours["evaluation"]["accuracy"]
        row = {
            "set": name, "head": head, "train": len(y), "test": len(y_test), "coldpress": accuracy,
            "coldpress_setting": ours["setting"], "script": float(right.mean()), "script_setting": float(setting),
            "interval": [float(low), float(high)], "within": bool(low <= accuracy <= high),
            "calibration_error": ours["examination"]["calibration_error"],
            "calibration_error_before": ours["examination"]["calibration_error_before"],
        }  # fmt: skip
        rows.append(row)
    return rows


def coldpress(*arguments: str) -> Any:
    """What a command of coldpress says with ``--json``."""
    command = [sys.executable, "-m", "coldpress", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"coldpress {' '.join(arguments)}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def read(store: Path) -> tuple[Any, Any]:
    """Vectors (N, D) float64 and labels (N,)."""
    vectors = [np.load(path) for path in sorted((store / "embeddings").glob("part-*.npy"))]
    labels = [
        pq.read_table(path, columns=["label"])["label"] for path in sorted((store / "metadata").glob("*.parquet"))
    ]
    return np.concatenate(vectors).astype(np.float64), np.concatenate([part.to_numpy() for part in labels])


def logistic(X: Any, y: Any, X_test: Any) -> tuple[Any, float]:
    """Predictions with the C of highest accuracy in cross-validation, and that C."""

    def fit(C: float, rows: Any) -> LogisticRegression:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the largest C need not converge to be compared
            return LogisticRegression(C=C, max_iter=300).fit(X[rows], y[rows])

    folds = list(StratifiedKFold(5, shuffle=True, random_state=1).split(X, y))
    scores = [np.mean([fit(C, rows).score(X[held], y[held]) for rows, held in folds]) for C in COSTS]
    best = COSTS[int(np.argmax(scores))]
    return fit(best, np.arange(len(y))).predict(X_test), best


def neighbours(X: Any, y: Any, X_test: Any) -> tuple[Any, float]:
    """Predictions with the k of highest accuracy in cross-validation, and that k."""
    classes, codes = np.unique(y, return_inverse=True)

    def vote(rows: Any, queries: Any, k: int) -> Any:
        trained = normalize(X[rows])
        k = min(k, len(trained))
        search = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(trained)
        distances, places = search.kneighbors(normalize(queries))
        weights = np.exp((1 - distances) / TEMPERATURE)
        shares = [(weights * (codes[rows][places] == code)).sum(axis=1) for code in range(len(classes))]
        return classes[np.argmax(shares, axis=0)]

    folds = list(StratifiedKFold(5, shuffle=True, random_state=1).split(X, y))
    usable = [k for k in NEIGHBOURS if k <= len(y) * 4 // 5] or [min(NEIGHBOURS)]
    scores = [np.mean([np.mean(vote(rows, X[held], k) == y[held]) for rows, held in folds]) for k in usable]
    best = usable[int(np.argmax(scores))]
    return vote(np.arange(len(y)), X_test, best), best


if __name__ == "__main__":
    main()
