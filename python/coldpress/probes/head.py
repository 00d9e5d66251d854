"""`Head`: a fitted classifier with the fingerprint of the vectors it understands; saved without pickle.

::

    HEAD/
      head.safetensors   # the weights, and in its header everything else: one file, replaced by one rename
      head.json          # the header again, for people and other tools; never read back
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from coldpress.errors import ColdpressError, FingerprintMismatch, StoreError
from coldpress.probes import heads
from coldpress.probes.evaluate import Label
from coldpress.probes.features import block_rows, checked
from coldpress.store.files import write_atomically
from coldpress.store.projection import Projection
from coldpress.types import Fingerprint

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

FORMAT = "coldpress-head"
VERSION = 3
WEIGHTS = "head.safetensors"
DESCRIPTION = "head.json"
_PROJECTION = "projection."

Weights = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Head:
    """A fitted linear classifier over the vectors of one space.

    Attributes
    ----------
    coef : ndarray, shape (K, D) or (1, D) for two classes, float64
        Of ``centroid`` the mean of each class, (K, D).
    intercept : ndarray, shape (K,) or (1,), float64
    classes : tuple of str or of int, length K
        Sorted, as scikit-learn keeps them.
    kind : {"logistic", "ridge", "lda", "centroid"}
    setting : float or None
        The regularisation it was trained with: C, alpha, shrinkage; None for ``centroid``.
    temperature : float or None
        What scores are divided by before their softmax, where scikit-learn's estimator knows no probabilities.
    output : str or None
        Of the vectors it was trained on, where they have several; None for the first.
    fingerprint : Fingerprint
        Of the vectors it was trained on.
    model, description : str, mapping
        The model that made those vectors, and the arguments of the :class:`~coldpress.Extractor` that did.
    mean, scale : ndarray, shape (D,), float64, or None
        Where the features were standardised: ``(vector - mean) / scale``.
    projection : Projection or None
        What the vectors were mapped by, if they were.
    report : mapping
        How it was trained and what the test part said, as plain JSON values.

    Examples
    --------
    >>> head = Head.open("ants-or-bees.head")        # doctest: +SKIP
    >>> head.check(extractor.fingerprint)            # doctest: +SKIP
    >>> head.predict(extractor.embed(["a.jpg"]))     # doctest: +SKIP
    """

    coef: Weights
    intercept: Weights
    classes: tuple[Label, ...]
    kind: str
    setting: float | None
    fingerprint: Fingerprint
    model: str
    temperature: float | None = None
    output: str | None = None
    mean: Weights | None = None
    scale: Weights | None = None
    description: Mapping[str, Any] = field(default_factory=dict)
    projection: Projection | None = None
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What it is, for people."""
        return heads.described(self.kind, self.setting)

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return int(self.coef.shape[1])

    @cached_property
    def estimator(self) -> Any:
        """The fitted scikit-learn estimator: a LogisticRegression, RidgeClassifier, LinearDiscriminantAnalysis or
        NearestCentroid, or a Pipeline with a StandardScaler before it.
        """
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import StandardScaler

        classifier = heads.estimator(self.kind, self.coef, self.intercept, np.asarray(self.classes), self.setting)
        if self.mean is None or self.scale is None:
            return classifier
        scaler = StandardScaler()
        scaler.mean_, scaler.scale_, scaler.var_ = self.mean, self.scale, self.scale**2
        scaler.n_features_in_ = self.dim
        return Pipeline([("scale", scaler), ("classifier", classifier)])

    def predict(self, vectors: npt.ArrayLike | EmbeddingStore) -> npt.NDArray[Any]:
        """The most probable class of each vector.

        Parameters
        ----------
        vectors : array-like, shape (N, D), or EmbeddingStore
            A store is read block by block, and its fingerprint checked.

        Returns
        -------
        ndarray, shape (N,), str or int64

        Raises
        ------
        FingerprintMismatch
            The store holds vectors of another space.
        ColdpressError
            Wrong shape or width; NaN or Inf among the values.
        """
        predictions = [self.estimator.predict(block) for block in self._blocks(vectors)]
        return np.concatenate([np.asarray(self.classes)[:0], *predictions])

    def predict_proba(self, vectors: npt.ArrayLike | EmbeddingStore) -> npt.NDArray[np.float64]:
        """Probability of each class, (N, K) float64, columns as in `classes`. Arguments and errors as in `predict`."""
        probabilities = [self._probabilities(block) for block in self._blocks(vectors)]
        return np.concatenate([np.empty((0, len(self.classes))), *probabilities])

    def _probabilities(self, block: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        if self.temperature is None:
            return np.asarray(self.estimator.predict_proba(block))
        from scipy.special import softmax

        X = block.astype(np.float64)
        if self.mean is not None and self.scale is not None:
            X = (X - self.mean) / self.scale
        return np.asarray(softmax(heads.scores(self.kind, self.coef, self.intercept, X) / self.temperature, axis=1))

    def _blocks(self, vectors: npt.ArrayLike | EmbeddingStore) -> Iterator[npt.NDArray[np.float32]]:
        given: Any = vectors
        if hasattr(given, "embeddings"):
            self.check(given.fingerprint)
        matrix = self.matrix(given) if hasattr(given, "embeddings") else np.asarray(given)
        if len(matrix.shape) != 2 or matrix.shape[1] != self.dim:
            raise ColdpressError(
                f"vectors have shape {tuple(matrix.shape)}, expected (N, {self.dim}): embed them with {self.model},"
                " and pass one vector as vector[None]"
            )
        step = block_rows(self.dim)
        for start in range(0, matrix.shape[0], step):
            yield checked(matrix[start : start + step], np.float32, partial(_numbered, start))

    def matrix(self, store: EmbeddingStore) -> Any:
        """The vectors of a store that it understands."""
        return store.embeddings if self.output is None else store.output(self.output)

    def check(self, fingerprint: Fingerprint) -> None:
        """Raise :class:`~coldpress.errors.FingerprintMismatch`, naming what differs, if `fingerprint` is another."""
        if fingerprint.digest != self.fingerprint.digest:
            differences = "; ".join(self.fingerprint.diff(fingerprint))
            raise FingerprintMismatch(
                f"the head and the vectors come from different spaces (head != vectors: {differences}): embed with"
                f" {self.model} and the same settings, or train a head on these vectors"
            )

    def save(self, directory: str | Path) -> None:
        """Write the head to `directory`; one that is there is replaced at once or, on failure, not at all.

        Raises
        ------
        StoreError
            The directory cannot be written.
        """
        header = {
            "format": FORMAT,
            "version": VERSION,
            "classes": list(self.classes),
            "dim": self.dim,
            "kind": self.kind,
            "setting": self.setting,
            "temperature": self.temperature,
            "output": self.output,
            "standardize": self.mean is not None,
            "model": self.model,
            "description": dict(self.description),
            "fingerprint": dict(self.fingerprint.fields),
            "report": dict(self.report),
        }
        tensors: dict[str, npt.NDArray[Any]] = {"coef": self.coef, "intercept": self.intercept}
        if self.mean is not None and self.scale is not None:
            tensors |= {"mean": self.mean, "scale": self.scale}
        if self.projection is not None:
            tensors |= {f"{_PROJECTION}{name}": matrix for name, matrix in self.projection.components.items()}
        text = json.dumps(header, indent=2, sort_keys=True)
        target = Path(directory)
        try:
            target.mkdir(parents=True, exist_ok=True)
            write_atomically(target / WEIGHTS, safetensors.numpy.save(tensors, metadata={"coldpress": text}))
            write_atomically(target / DESCRIPTION, (text + "\n").encode())
        except OSError as error:
            raise StoreError(f"cannot save the head to {target}: {error}; choose a writable directory") from error

    @classmethod
    def open(cls, directory: str | Path) -> Head:
        """Read a head that :meth:`save` wrote; its predictions equal those of the one that was saved.

        Raises
        ------
        StoreError
            `directory` is not a head, is of another format version, or damaged.
        """
        path = Path(directory) / WEIGHTS
        if not path.is_file():
            raise StoreError(f"{directory} is not a head, it has no {WEIGHTS}: make one with coldpress probe")
        try:
            with safe_open(path, framework="np") as file:
                header = json.loads((file.metadata() or {})["coldpress"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            found = (header["format"], header["version"])
            if found != (FORMAT, VERSION):
                raise StoreError(
                    f"{path} has format {found}, expected {(FORMAT, VERSION)}: use the coldpress it is from"
                )
            components = {n.removeprefix(_PROJECTION): t for n, t in tensors.items() if n.startswith(_PROJECTION)}
            head = cls(
                **{name: tensor for name, tensor in tensors.items() if not name.startswith(_PROJECTION)},
                projection=Projection(components) if components else None,
                classes=tuple(header["classes"]),
                kind=header["kind"],
                setting=header["setting"],
                temperature=header["temperature"],
                output=header["output"],
                fingerprint=Fingerprint(header["fingerprint"]),
                model=header["model"],
                description=header["description"],
                report=header["report"],
            )
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} is damaged or not a head ({error!r}): train it again") from error
        rows = 1 if len(head.classes) == 2 and head.kind != "centroid" else len(head.classes)
        if head.coef.shape != (rows, header["dim"]) or head.intercept.shape != (rows,):
            raise StoreError(f"{path} has weights {head.coef.shape}, expected {(rows, header['dim'])}: train it again")
        return head


def _numbered(start: int, row: int) -> str:
    return f"vector {start + row}"
