"""What a head of each kind is: the arrays that make it up, the scores these give, and scikit-learn's estimator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.probes import closed, knn, logistic, ridge
from coldpress.probes.features import Features
from coldpress.probes.label_values import Task

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]
"""``coef`` (K, D) and ``intercept`` (K,), float64, of two classes (1, D) and (1,) but for ``centroid``; of ``knn``
``vectors`` (N, D), as they were stored, and ``codes`` (N,) int32, their classes.
"""

KINDS = ("logistic", *closed.HEADS, "knn")
NAMES = {
    "logistic": "logistic regression",
    "ridge": "ridge classifier",
    "lda": "linear discriminants",
    "centroid": "nearest centroid",
    "knn": "nearest neighbours",
}
SETTINGS = {"logistic": "C", "ridge": "alpha", "lda": "shrinkage", "knn": "k"}


def described(kind: str, setting: float | None, task: Task = "classify") -> str:
    """``logistic regression, C = 1``."""
    name = "ridge regression" if task == "regress" else NAMES[kind]
    return name if setting is None else f"{name}, {SETTINGS[kind]} = {setting:.3g}"


def linear(coef: Array, intercept: Array) -> Tensors:
    """Of a linear head."""
    return {"coef": np.asarray(coef, np.float64), "intercept": np.asarray(intercept, np.float64)}


def neighbours(features: Features, codes: Array) -> Tensors:
    """Of ``knn``: the vectors that the features are made of, before they are moved and scaled."""
    vectors = np.asarray(features.matrix[features.rows])
    dtype = np.float16 if vectors.dtype == np.float16 else np.float32
    return {"vectors": vectors.astype(dtype), "codes": np.asarray(codes, np.int32)}


def check(task: Task, kind: str, tensors: Tensors, columns: int, dim: int) -> None:
    """Refuse arrays that are not those of a head of `columns` classes; raises ValueError."""
    if kind == "knn":
        fits = tensors["vectors"].shape == (len(tensors["codes"]), dim)
        if not (fits and tensors["codes"].min() >= 0 and tensors["codes"].max() < columns):
            raise ValueError(f"{tensors['vectors'].shape} vectors and {tensors['codes'].shape} classes")
        return
    two = task == "classify" and columns == 2 and kind != "centroid"
    rows = 1 if two or task == "regress" else columns
    if tensors["coef"].shape != (rows, dim) or tensors["intercept"].shape != (rows,):
        raise ValueError(f"weights {tensors['coef'].shape}, expected {(rows, dim)}")


def scaled(vectors: Array, mean: Array | None, scale: Array | None) -> Features:
    """Vectors (N, D) as the head takes them."""
    return Features(vectors, np.arange(len(vectors)), lambda row: f"vector {row}", mean, scale)


def scorer(
    kind: str, setting: float | None, tensors: Tensors, columns: int, mean: Array | None, scale: Array | None
) -> Callable[[Array], Array]:
    """What makes decisions (N, K) float64 of vectors (N, D) float32; of two classes (N, 1), see :func:`spread`."""
    if kind != "knn":
        return lambda X: scaled(X, mean, scale).array(np.float64) @ tensors["coef"].T + tensors["intercept"]
    voters = knn.Neighbours(scaled(tensors["vectors"], mean, scale), tensors["codes"], columns)
    k = min(int(setting or 1), len(tensors["codes"]))
    return lambda X: knn.logits_of(voters.shares(scaled(X, mean, scale).array(np.float32), (k,))[0], k)


def spread(kind: str, found: Array) -> Array:
    """Decisions on classes as scores (N, K): the highest is predicted."""
    if found.shape[1] > 1:
        return found
    return np.hstack([-found if kind == "ridge" else np.zeros_like(found), found])


def estimator(
    task: Task,
    kind: str,
    setting: float | None,
    tensors: Tensors,
    classes: Array,
    mean: Array | None,
    scale: Array | None,
) -> Any:
    """The fitted estimator of scikit-learn, with a StandardScaler before it where the features were scaled."""
    if kind == "knn":
        vectors = scaled(tensors["vectors"], mean, scale).array(np.float32)
        fitted: Any = knn.estimator(vectors, classes[tensors["codes"]], int(setting or 1))
    elif task == "regress":
        fitted = ridge.estimator(tensors["coef"], tensors["intercept"], float(setting or 0))
    elif task == "multilabel":
        fitted = logistic.estimator_of_sets(tensors["coef"], tensors["intercept"], float(setting or 0))
    elif kind == "logistic":
        fitted = logistic.estimator(tensors["coef"], tensors["intercept"], classes, float(setting or 0))
    else:
        fitted = closed.estimator(kind, tensors["coef"], tensors["intercept"], classes, setting)
    if mean is None or scale is None:
        return fitted
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    scaler.mean_, scaler.scale_, scaler.var_ = mean, scale, scale**2
    scaler.n_features_in_ = len(mean)
    return Pipeline([("scale", scaler), ("classifier", fitted)])
