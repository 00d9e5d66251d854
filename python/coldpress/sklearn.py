"""`FrozenFeatures`: a frozen backbone as a scikit-learn transformer, for Pipeline and GridSearchCV.

The whole contract is in this file. Importing it imports scikit-learn; ``import coldpress`` does not import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from coldpress.errors import ColdpressError, FingerprintMismatch
from coldpress.types import Fingerprint, Modality

if TYPE_CHECKING:
    from coldpress.extractor import Extractor

_DEFAULTS: dict[str, Any] = {
    "device": "auto",
    "precision": "auto",
    "output": "pooled",
    "modality": None,
    "arch": None,
    "threads": None,
}
"""Of the parameters that an extractor takes."""


class FrozenFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn texts or images into the vectors of a frozen backbone.

    Nothing is learned. `fit` loads the model and remembers its fingerprint, so that a pickled pipeline refuses to run
    on other weights later. A clone or a pickle of an estimator made from a model *name* holds the name only and loads
    the weights when it needs them; one made from an :class:`~coldpress.Extractor` shares that extractor with its
    clones, which is the faster choice in a grid search.

    Parameters
    ----------
    model : str, path or Extractor
        A model directory, a hub id, or a ready extractor. With an extractor the other parameters have no effect and
        have to be left at their defaults.
    device, precision, output : str
    modality : {"text", "image"}, optional
    arch : str, optional
    threads : int, optional
        As of :class:`~coldpress.Extractor`.

    Attributes
    ----------
    n_features_out_ : int
        Width D of the vectors.
    fingerprint_ : Fingerprint
        The space they live in.
    modality_ : {"text", "image"}
        What the model takes.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> classifier = make_pipeline(FrozenFeatures("models/minilm"), LogisticRegression(C=10))
    >>> classifier.fit(texts, labels).predict(["a new text"])     # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any = "sentence-transformers/all-MiniLM-L6-v2",
        *,
        device: str = "auto",
        precision: str = "auto",
        output: str = "pooled",
        modality: Modality | None = None,
        arch: str | None = None,
        threads: int | None = None,
    ) -> None:
        self.model = model
        self.device = device
        self.precision = precision
        self.output = output
        self.modality = modality
        self.arch = arch
        self.threads = threads

    def fit(self, X: Any, y: Any = None) -> FrozenFeatures:
        """Load the model and check that `X` is something it could take; nothing is computed.

        Parameters
        ----------
        X : sequence, shape (N,)
            Texts, or image files, PIL images or uint8 (height, width, 3) arrays: a list, an array, a pandas column or
            a table of one column. At least one item.
        y : ignored

        Raises
        ------
        ValueError, TypeError
            `X` is empty, not one-dimensional, or has missing items.
        ColdpressError
            The model cannot be loaded, or parameters contradict each other.
        """
        if not as_items(X):
            raise ValueError("X has 0 items, expected a minimum of 1: pass at least one text or image")
        extractor = self._load()
        self._extractor = extractor
        self.n_features_out_ = int(extractor.dim)
        self.fingerprint_: Fingerprint = extractor.fingerprint
        self.modality_ = extractor.modality
        return self

    def transform(self, X: Any) -> npt.NDArray[np.float32]:
        """Vectors of `X` (as in `fit`; may be empty), (N, n_features_out_) float32.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ItemError
            An item cannot be embedded.
        FingerprintMismatch
            The model has changed since `fit`.
        """
        check_is_fitted(self)
        items = as_items(X)
        if not items:
            return np.empty((0, self.n_features_out_), dtype=np.float32)
        return np.asarray(self._fitted_extractor().embed(items), dtype=np.float32)

    @property
    def _n_features_out(self) -> int:
        return int(self.n_features_out_)  # what ClassNamePrefixFeaturesOutMixin numbers

    def _load(self) -> Extractor:
        if not hasattr(self.model, "embed"):
            from coldpress.extractor import Extractor

            return Extractor(self.model, **{name: getattr(self, name) for name in _DEFAULTS})
        changed = [name for name, default in _DEFAULTS.items() if getattr(self, name) != default]
        if changed:
            raise ColdpressError(
                f"{', '.join(changed)} cannot be set on a ready extractor: give them to Extractor(...) or pass the"
                " model by name"
            )
        ready: Extractor = self.model
        return ready

    def _fitted_extractor(self) -> Extractor:
        """The extractor of `fit`, loaded again after unpickling."""
        if getattr(self, "_extractor", None) is None:
            extractor = self._load()
            if extractor.fingerprint.digest != self.fingerprint_.digest:
                raise FingerprintMismatch(
                    "the model has changed since fit (fitted != now: "
                    f"{'; '.join(self.fingerprint_.diff(extractor.fingerprint))}): restore it or fit again"
                )
            self._extractor = extractor
        return self._extractor

    def __getstate__(self) -> dict[str, Any]:
        # The backbone is a file that can be read again, not state: kept out of pickles and joblib's cache keys.
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_extractor"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []  # always float32
        return tags


def as_items(X: Any) -> list[Any]:
    """`X` as a list of single texts or images; raises ValueError or TypeError where it is not a sequence of items."""
    if isinstance(X, (str, bytes)) or not hasattr(X, "__len__") or not hasattr(X, "__iter__"):
        raise TypeError(
            f"X is a {type(X).__name__}, expected a list, array or column of items: put a single one in [ ]"
        )
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) == 2 and shape[1] == 1:  # a table or array of one column
        X = X.iloc[:, 0] if hasattr(X, "iloc") else np.asarray(X).ravel()
    elif shape is not None and len(shape) not in (1, 4):
        raise ValueError(
            f"X has shape {tuple(shape)}, expected one column of texts or images, or uint8 pixels (N, height, width, 3)"
        )
    items = [str(item) if isinstance(item, np.str_) else item for item in X]
    for position, item in enumerate(items):
        if item is None or isinstance(item, (bool, int, float, complex, np.generic)):
            raise TypeError(f"item {position} of X is {item!r}, expected a text or an image: drop or fill such items")
    return items
