"""`Head`: a fitted classifier with the fingerprint of the vectors it understands; saved without pickle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError, FingerprintMismatch
from coldpress.probes import heads
from coldpress.probes.calibrate import sigmoid, softmax
from coldpress.probes.evaluate import Label
from coldpress.probes.features import checked
from coldpress.probes.head_files import damaged, read_head, write_head
from coldpress.probes.label_values import Task
from coldpress.store.blocks import block_rows
from coldpress.store.projection import Projection
from coldpress.types import Fingerprint

if TYPE_CHECKING:
    from coldpress.extractor import Extractor
    from coldpress.probes.export import FineTunable
    from coldpress.store import EmbeddingStore

_PROJECTION = "projection."

Weights = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Head:
    """What has been learned from labelled vectors of one space.

    Attributes
    ----------
    tensors : mapping of str to ndarray
        What it has learned: ``coef`` (K, D) and ``intercept`` (K,) float64, of two classes (1, D) and (1,) but for
        ``centroid``, whose coef are the means; of ``knn`` all training ``vectors`` (N, D), float16 if they were stored
        so, else float32, mapped from the file once it has been opened, and their classes ``codes`` (N,).
    classes : tuple of str or of int, length K
        Sorted, as scikit-learn keeps them; of ``multilabel`` the labels, of ``regress`` none, with K = 1.
    task : {"classify", "regress", "multilabel"}
        One class an item, a number, or any of several labels.
    kind : {"logistic", "ridge", "lda", "centroid", "knn"}
    setting : float or None
        What it was trained with: C, alpha, shrinkage, k; None for ``centroid``.
    temperature : float
        What scores are divided by before their softmax, chosen on rows held out in cross-validation.
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

    tensors: Mapping[str, npt.NDArray[Any]]
    classes: tuple[Label, ...]
    kind: str
    setting: float | None
    task: Task
    fingerprint: Fingerprint
    model: str
    temperature: float = 1.0
    output: str | None = None
    mean: Weights | None = None
    scale: Weights | None = None
    description: Mapping[str, Any] = field(default_factory=dict)
    projection: Projection | None = None
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def coef(self) -> Weights:
        """Weights of a linear head; raises ColdpressError for ``knn``."""
        if self.kind == "knn":
            raise ColdpressError("nearest neighbours have no coefficients: take tensors['vectors']")
        return self.tensors["coef"]

    @property
    def intercept(self) -> Weights:
        """Intercepts of a linear head."""
        return self.tensors["intercept"]

    def __repr__(self) -> str:
        told = {"regress": "numbers", "multilabel": f"{self.columns} labels"}.get(self.task, f"{self.columns} classes")
        return f"Head({self.title!r}, dim={self.dim}, {told}, model={self.model!r})"

    @property
    def title(self) -> str:
        """What it is, for people."""
        return heads.described(self.kind, self.setting, self.task)

    @property
    def columns(self) -> int:
        """K: classes, labels, or 1."""
        return 1 if self.task == "regress" else len(self.classes)

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return int(self.tensors["vectors" if self.kind == "knn" else "coef"].shape[1])

    @property
    def nbytes(self) -> int:
        """What it takes on disk, and in memory when it is used."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @cached_property
    def estimator(self) -> Any:
        """The fitted scikit-learn estimator: a LogisticRegression, RidgeClassifier, LinearDiscriminantAnalysis,
        NearestCentroid, KNeighborsClassifier, Ridge or OneVsRestClassifier, or a Pipeline with a StandardScaler before
        it. It predicts the same; its probabilities, where it has any, are those before calibration.
        """
        classes = np.asarray(self.classes)
        return heads.estimator(self.task, self.kind, self.setting, self.tensors, classes, self.mean, self.scale)

    def predict(self, vectors: npt.ArrayLike | EmbeddingStore) -> npt.NDArray[Any]:
        """The most probable class of each vector; the number; or which labels are more probable than not.

        Parameters
        ----------
        vectors : array-like, shape (N, D), or EmbeddingStore
            A store is read block by block, and its fingerprint checked.

        Returns
        -------
        ndarray, shape (N,), str or int64; of numbers float64; or, of several labels, shape (N, L), bool

        Raises
        ------
        FingerprintMismatch
            The store holds vectors of another space.
        ColdpressError
            Wrong shape or width; NaN or Inf among the values.
        """
        found = [self._answers(self._scores(block)) for block in self._blocks(vectors)]
        return np.concatenate([self._answers(np.empty((0, self.columns))), *found])

    def _answers(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        if self.task == "regress":
            return scores[:, 0]
        if self.task == "multilabel":
            return np.asarray(scores > 0)
        return np.asarray(np.asarray(self.classes)[scores.argmax(axis=1)])

    def predict_proba(self, vectors: npt.ArrayLike | EmbeddingStore) -> npt.NDArray[np.float64]:
        """Probability of each class, (N, K) float64, columns as in `classes`. Arguments and errors as in `predict`.

        Of ``multilabel`` each label has its own. A regression has none, and raises ColdpressError.
        """
        if self.task == "regress":
            raise ColdpressError("this head predicts numbers, which have no probabilities: call predict")
        logits = self.logits(vectors)
        return sigmoid(logits) if self.task == "multilabel" else softmax(logits)

    def logits(self, vectors: npt.ArrayLike | EmbeddingStore) -> npt.NDArray[np.float64]:
        """What the probabilities are the softmax of, (N, K) float64; of ``multilabel`` the sigmoid; of ``regress`` the
        numbers, (N, 1). Arguments and errors as in `predict`.
        """
        found = [self._scores(block) / self.temperature for block in self._blocks(vectors)]
        return np.concatenate([np.empty((0, self.columns)), *found])

    def _scores(self, block: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        found = self._decide(block)
        return heads.spread(self.kind, found) if self.task == "classify" else found

    @cached_property
    def _decide(self) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float64]]:
        return heads.scorer(self.kind, self.setting, self.tensors, self.columns, self.mean, self.scale)

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

    def to_module(self, extractor: Extractor) -> FineTunable:
        """Backbone and head as one trainable `torch.nn.Module`, to fine-tune from where this probe stands.

        Parameters
        ----------
        extractor : what made the vectors; its weights are read once more and stay frozen in it.

        Returns
        -------
        FineTunable
            Maps a batch, see :func:`~coldpress.probes.batch_of`, to the :meth:`logits` of its items: to 1e-5 where the
            extractor computes in fp32, else as far off as its certificate says. Save it with
            ``safetensors.torch.save_model`` and load that into a module made in the same way.

        Raises
        ------
        FingerprintMismatch
            The head belongs to other vectors.
        ColdpressError
            A head without weights (``knn``), or a model that coldpress runs as a module of another library.

        Examples
        --------
        >>> module = head.to_module(extractor)                                      # doctest: +SKIP
        >>> optimiser = torch.optim.AdamW(module.parameters(), lr=1e-5)             # doctest: +SKIP
        >>> logits = module(batch_of(extractor, texts))                             # doctest: +SKIP
        >>> torch.nn.functional.cross_entropy(logits, labels).backward()            # doctest: +SKIP
        """
        from coldpress.probes.export import to_module

        return to_module(self, extractor)

    def save(self, directory: str | Path) -> None:
        """Write the head to `directory`; one that is there is replaced at once or, on failure, not at all.

        Raises
        ------
        StoreError
            The directory cannot be written.
        """
        header = {
            "classes": list(self.classes),
            "dim": self.dim,
            "task": self.task,
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
        arrays = dict(self.tensors)
        if self.mean is not None and self.scale is not None:
            arrays |= {"mean": self.mean, "scale": self.scale}
        if self.projection is not None:
            arrays |= {f"{_PROJECTION}{name}": matrix for name, matrix in self.projection.components.items()}
        write_head(Path(directory), header, arrays)

    @classmethod
    def open(cls, directory: str | Path) -> Head:
        """Read a head that :meth:`save` wrote; its predictions equal those of the one that was saved.

        Raises
        ------
        StoreError
            `directory` is not a head, is of another format version, or damaged.
        """
        header, arrays = read_head(directory)
        try:
            components = {name: arrays.pop(name) for name in list(arrays) if name.startswith(_PROJECTION)}
            components = {name.removeprefix(_PROJECTION): matrix for name, matrix in components.items()}
            head = cls(
                mean=arrays.pop("mean", None),
                scale=arrays.pop("scale", None),
                tensors=arrays,
                projection=Projection(components) if components else None,
                fingerprint=Fingerprint(header["fingerprint"]),
                classes=tuple(header["classes"]),
                **{name: header[name] for name in _PLAIN},
            )
            heads.check(head.task, head.kind, head.tensors, len(head.classes), header["dim"])
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(directory, repr(error)) from error
        return head


_PLAIN = ("task", "kind", "setting", "temperature", "output", "model", "description", "report")


def _numbered(start: int, row: int) -> str:
    return f"vector {start + row}"
