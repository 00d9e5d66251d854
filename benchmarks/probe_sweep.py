"""How long does the whole path of 45 values of C take, against scikit-learn's LogisticRegressionCV?

    python benchmarks/probe_sweep.py [--rows 20000 --dim 384 --classes 20] [--tight]

Both get the same features, folds and values of C. scikit-learn runs with a process for each core, one BLAS thread
each: the fastest way on this data. At its own tolerance (1e-4) it stops early for large C, where its accuracies are
those of a smaller one; ``--tight`` adds a row with 1e-6, the first at which its path is ours. A pass over larger data
is timed too, on a sample of rows, and extrapolated to ImageNet: 1.28 M x 1024, 1000 classes.
"""

from __future__ import annotations

import os
import resource
import time
import warnings
from typing import Any

import numpy as np
import torch
from harness import arguments, write
from joblib.externals.loky import get_reusable_executor
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from coldpress.probes import logistic
from coldpress.probes.features import Features

FOLDS = 5
IMAGENET = {"rows": 1_281_167, "dim": 1024, "classes": 1000}


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "probe_sweep.json")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--tight", action="store_true", help="also scikit-learn with tol=1e-6 (ten minutes)")
    options = parser.parse_args()
    X, y = draw(options.rows, options.dim, options.classes)
    splits = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(X, y))
    passes = count_passes()
    rows = [timed("coldpress", lambda: ours(X, y, splits))]
    rows[0]["passes"] = passes["calls"]
    rows.append(timed("LogisticRegressionCV", lambda: theirs(X, y, splits, tol=1e-4, max_iter=100)))
    if options.tight:
        rows.append(timed("LogisticRegressionCV, tol=1e-6", lambda: theirs(X, y, splits, tol=1e-6, max_iter=2000)))
    for row in rows:
        row["ratio"] = row["seconds"] / rows[0]["seconds"]
        row["cpu_ratio"] = row["cpu_seconds"] / rows[0]["cpu_seconds"]
        row["best"] = max(row["accuracy"])
        print(
            f"{row['engine']:32s} {row['seconds']:8.1f} s  x{row['ratio']:.1f}  CPU {row['cpu_seconds']:.1f} s"
            f"  x{row['cpu_ratio']:.1f}  best accuracy {row['best']:.4f}"
        )
    differences = {
        row["engine"]: float(np.abs(np.subtract(row["accuracy"], rows[0]["accuracy"])).max()) for row in rows[1:]
    }
    print("largest difference of accuracy along the path:", differences)
    write(
        options.json,
        question=f"45 values of C, {FOLDS} folds, {options.rows} x {options.dim} x {options.classes}",
        rows=rows,
        differences=differences,
        imagenet=extrapolate(passes["calls"], options.threads),
    )


def draw(rows: int, dim: int, classes: int, seed: int = 0) -> tuple[Any, Any]:
    """Unit vectors of overlapping classes in a space whose variances fall off as those of embeddings do."""
    rng = np.random.default_rng(seed)
    spectrum = np.arange(1, dim + 1) ** -0.5
    centres, y = rng.normal(size=(classes, dim)) * spectrum, rng.integers(0, classes, rows)
    turn = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    X = (0.175 * centres[y] + rng.normal(size=(rows, dim)) * spectrum) @ turn + 0.1 * rng.normal(size=dim)
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32), y


def timed(name: str, run: Any) -> dict[str, Any]:
    begin, used = time.perf_counter(), cpu_seconds()
    accuracy = run()
    seconds = time.perf_counter() - begin
    return {
        "engine": name,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds() - used,
        "accuracy": [float(a) for a in accuracy],
    }


def cpu_seconds() -> float:
    """Of this process and those it has started: what other programs on the machine take does not count."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def ours(X: Any, y: Any, splits: Any) -> list[float]:
    """The path, and the fit with the best C."""
    folds = np.empty(len(y), dtype=np.int64)
    for fold, (_, held_out) in enumerate(splits):
        folds[held_out] = fold
    features, columns = Features(X, np.arange(len(X)), str), int(y.max()) + 1
    search = logistic.search_C(features, y, folds, columns=columns)
    logistic.fit(features, y, search.C, columns=columns, start=search.start)
    return [one.score for one in search.candidates]


def theirs(X: Any, y: Any, splits: Any, *, tol: float, max_iter: int) -> Any:
    jobs = os.cpu_count()
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegressionCV(
            Cs=logistic.C_GRID, cv=splits, tol=tol, max_iter=max_iter, n_jobs=jobs, l1_ratios=(0,),
            use_legacy_attributes=False, scoring="accuracy",
        ).fit(X, y)  # fmt: skip
    get_reusable_executor().shutdown(wait=True)  # what processes have used is known once they have ended
    return np.asarray(model.scores_).reshape(FOLDS, -1).mean(axis=0)


def count_passes() -> dict[str, int]:
    """Count passes over all rows from here on."""
    counted, original = {"calls": 0}, logistic.Problem.sums

    def sums(self: Any, V: torch.Tensor, active: Any) -> Any:
        counted["calls"] += 1
        return original(self, V, active)

    logistic.Problem.sums = sums  # type: ignore[method-assign]
    return counted


def extrapolate(passes: int, threads: int) -> dict[str, Any]:
    """Time one pass for all folds over some rows of ImageNet's shape; time grows with the number of rows alone."""
    dim, classes, measured = IMAGENET["dim"], IMAGENET["classes"], {}
    for rows in (2048, 4096):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(rows, dim)).astype(np.float16)
        y, folds = rng.integers(0, classes, rows), np.arange(rows) % FOLDS
        weights = (folds[:, None] != np.arange(FOLDS)).astype(np.float64)
        with logistic._path(Features(X, np.arange(rows), str), y, classes, weights, folds) as path:
            path.problem._kept.clear()
            V = torch.zeros(FOLDS, dim + 1, classes)
            begin = time.perf_counter()
            path.problem.sums(V, range(FOLDS))
            measured[rows] = time.perf_counter() - begin
    per_row = (measured[4096] - measured[2048]) / 2048
    state = 4 * FOLDS * (dim + 1) * classes
    found = {
        "shape": IMAGENET,
        "seconds_of_a_pass_over_rows": measured,
        "seconds_a_pass": per_row * IMAGENET["rows"],
        "hours": per_row * IMAGENET["rows"] * passes / 3600,
        "memory_bytes": state * (2 * 2 * 20 + 12) + (1 << 30),
        "passes": passes,
        "threads": threads,
    }
    print(
        f"ImageNet (1.28 M x 1024 x 1000), extrapolated: {found['seconds_a_pass']:.0f} s a pass, {passes} passes: "
        f"{found['hours']:.1f} h on {threads} threads, at most {found['memory_bytes'] / 1e9:.1f} GB besides the store"
    )
    return found


if __name__ == "__main__":
    main()
