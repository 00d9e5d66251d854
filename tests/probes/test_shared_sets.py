"""On vectors of real texts and photos too, heads are scikit-learn's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import log_loss

from coldpress import Extractor
from coldpress.probes import closed, logistic
from coldpress.probes.features import Features


@pytest.fixture(scope="module")
def questions(shared: Path, minilm: Path):
    rows = [json.loads(line) for line in (shared / "text" / "trec6" / "train.jsonl").read_text().splitlines()[:900]]
    return _vectors(minilm, [row["text"] for row in rows]), np.asarray([row["label"] for row in rows])


@pytest.fixture(scope="module")
def insects(shared: Path):
    paths = sorted((shared / "hymenoptera" / "train").rglob("*.jpg"))
    network = shared / "models" / "mobilenet_v2_1.0_224_imagenet"
    return _vectors(network, paths), np.asarray([path.parent.name for path in paths])


def _vectors(model: Path, items):
    return Extractor(model, device="cpu", precision="fp32").embed(items)


@pytest.fixture(params=["questions", "insects"])
def labelled(request):
    X, labels = request.getfixturevalue(request.param)
    names, y = np.unique(labels, return_inverse=True)
    return X, y, len(names)


@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
def test_logistic_regression(labelled, C):
    X, y, columns = labelled
    coef, intercept, converged = logistic.fit(Features(X, np.arange(len(X)), str), y, C, columns=columns)
    theirs = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10, max_iter=1000).fit(X.astype(np.float64), y)
    ours = logistic.estimator(coef, intercept, np.arange(columns), C)
    assert converged
    losses = [
        log_loss(y, model.predict_proba(X.astype(np.float64))) + (model.coef_**2).sum() / (2 * C * len(X))
        for model in (ours, theirs)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    if C <= 1:
        np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-3 * np.abs(theirs.coef_).max())


@pytest.mark.parametrize(
    ("head", "setting", "theirs"),
    [
        ("ridge", 1.0, RidgeClassifier(alpha=1.0)),
        ("lda", 0.5, LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5)),
    ],
)
def test_heads_from_moments(labelled, head, setting, theirs):
    X, y, columns = labelled
    found = closed.ClosedForms.of(Features(X, np.arange(len(X)), str), y, np.arange(len(y)) % 5, columns=columns)
    coef, _ = found.fit(head, setting)[:2]
    expected = np.atleast_2d(theirs.fit(X.astype(np.float64), y).coef_)
    np.testing.assert_allclose(coef, expected, atol=1e-3 * np.abs(expected).max())
