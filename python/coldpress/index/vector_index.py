"""`VectorIndex`: nearest neighbours in one vector space, kept together with the keys and that space's fingerprint."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from coldpress.errors import ColdpressError, FingerprintMismatch, StoreError
from coldpress.index import files
from coldpress.index._faiss import faiss_threads, load_faiss
from coldpress.index.ivf import MIN_ROWS, build_ivf
from coldpress.index.signs import SignIndex, build_signs
from coldpress.index.vectors import Floats, Metric, Rows, prepare, prepared_blocks
from coldpress.store.projection import PROJECTION_NAME, Projection
from coldpress.types import Fingerprint

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

logger = logging.getLogger(__name__)

Kind = Literal["exact", "ivf", "binary"]
Neighbours = tuple[Floats, npt.NDArray[np.object_]]

EXACT_BELOW = 10_000  # rows; below, brute force answers in about a millisecond and there is nothing to tune
RECALL_TARGET = 0.95
TIE_SLACK = 16  # further neighbours fetched so that rows of equal score at the k-th place are cut in row order


class VectorIndex:
    """Nearest neighbours among the vectors of a store.

    Made by :meth:`build` or :meth:`open`. Searching is safe from several threads at once.

    Attributes
    ----------
    fingerprint : Fingerprint
        The space the vectors live in; queries must come from the same one (:meth:`check`).
    model, description : str, mapping
        The model that made them, and the arguments of the :class:`~coldpress.Extractor` that did.
    output : str
        Which output of the store they are.
    projection : Projection or None
        What they were mapped by, if they were, for the queries.
    metric : {"cosine", "dot"}
    kind : {"exact", "ivf", "binary"}
    settings : mapping
        How it was built and tuned; always has ``recall_at_10`` against comparing every stored vector, and for ``"ivf"``
        ``nlist``, ``nprobe`` and more. Of ``"binary"`` it is None: the vectors that the signs were are not stored.

    Examples
    --------
    >>> index = VectorIndex.build(store)                # doctest: +SKIP
    >>> scores, keys = index.search(vectors, k=10)      # doctest: +SKIP
    >>> index.save("photos.index")                      # doctest: +SKIP
    """

    def __init__(
        self,
        faiss_index: Any,
        keys: pa.Array[Any],
        *,
        fingerprint: Fingerprint,
        model: str,
        description: Mapping[str, Any],
        output: str,
        metric: Metric,
        kind: Kind,
        settings: Mapping[str, Any],
        projection: Projection | None = None,
    ) -> None:
        self._index = faiss_index
        self._keys = keys
        self.fingerprint = fingerprint
        self.model = model
        self.description = MappingProxyType(dict(description))
        self.output = output
        self.projection = projection
        self.metric: Metric = metric
        self.kind: Kind = kind
        self.settings = MappingProxyType(dict(settings))

    @classmethod
    def build(
        cls,
        store: EmbeddingStore,
        *,
        kind: Literal["auto", "exact", "ivf"] = "auto",
        metric: Metric = "cosine",
        output: str | None = None,
        threads: int | None = None,
        seed: int = 0,
    ) -> VectorIndex:
        """Index every row of a store.

        The vectors are read block by block; in memory are the index itself (4 bytes a dimension) and, for
        ``"ivf"``, a training sample of at most 256 MB. The same store, seed and thread count give the same index.

        Parameters
        ----------
        store : EmbeddingStore
        kind : {"auto", "exact", "ivf"}
            ``"exact"`` compares with every row. ``"ivf"`` compares with the rows of the nearest clusters, as many
            of them as recall@10 >= 0.95 takes on queries held out from the data. ``"auto"`` is exact below 10,000
            rows, else ``"ivf"``. A store of signs (``--dtype binary``) always becomes a ``"binary"`` index: the rows
            nearest by Hamming distance, ranked by the cosine of the query with their signs, at a bit a dimension.
        metric : {"cosine", "dot"}
            ``"cosine"`` scales rows and queries to unit length; ``"dot"`` takes them as they are.
        output : str, optional
            Which output of a store that holds several; None: its first.
        threads : int, optional
            Threads for building; None: what faiss is set to.
        seed : int
            For the sample, the held-out queries and the clustering.

        Raises
        ------
        ColdpressError
            An empty store, a row that is not finite or, under cosine, all zeros, an unknown kind or metric.
        """
        if kind not in ("auto", "exact", "ivf"):
            raise ColdpressError(f"kind is {kind!r}, expected 'auto', 'exact' or 'ivf'")
        if metric not in ("cosine", "dot"):
            raise ColdpressError(f"metric is {metric!r}, expected 'cosine' or 'dot'")
        keys, rows = store.keys, len(store)
        if rows == 0:
            raise ColdpressError("the store holds no vectors, expected at least one: embed something first")
        chosen = _chosen_kind(kind, metric, rows, store.dtype)
        name = output or store.default_output
        if name in store.ragged:
            raise ColdpressError(
                f"output {name!r} has a matrix for every item, expected one vector: index a pooled output"
            )
        matrix = store.bits(name) if chosen == "binary" else store.output(name)
        dim = store.dims[name]
        settings: dict[str, Any]
        with faiss_threads(threads) as faiss:
            if chosen == "binary":
                index, settings = build_signs(faiss, matrix, dim), {"recall_at_10": None}
            elif chosen == "exact":
                index, settings = faiss.IndexFlatIP(dim), {"recall_at_10": 1.0}
                for _, block in prepared_blocks(matrix, metric, keys):
                    index.add(block)
            else:
                index, settings = build_ivf(faiss, matrix, metric, keys, seed=seed, target=RECALL_TARGET)
        logger.info("indexed %d rows as %s: %s", rows, chosen, settings)
        return cls(
            index,
            keys.to_arrow(),
            fingerprint=_of_output(store.fingerprint, name),
            model=store.model,
            description=store.description,
            output=name,
            projection=store.projection,
            metric=metric,
            kind=chosen,
            settings=settings,
        )

    @classmethod
    def open(cls, directory: str | Path, *, verify: bool = True) -> VectorIndex:
        """Read an index that :meth:`save` wrote; `verify` compares its files with their SHA-256 first.

        Raises
        ------
        StoreError
            `directory` is not an index, is of another format version, incomplete or damaged.
        """
        manifest, paths = files.open_directory(Path(directory), verify=verify)
        try:
            faiss, path = load_faiss(), str(paths["index.faiss"])
            if manifest["kind"] == "binary":
                index = SignIndex(faiss, faiss.read_index_binary(path), manifest["dim"])
            else:
                index = faiss.read_index(path)
            keys = pq.read_table(paths["keys.parquet"])["key"].combine_chunks()
            opened = cls(
                index,
                keys.cast(pa.large_string()),
                fingerprint=Fingerprint(manifest["fingerprint"]),
                model=manifest["model"],
                description=manifest["description"],
                output=manifest["output"],
                metric=manifest["metric"],
                kind=manifest["kind"],
                settings=manifest["settings"],
                projection=Projection.from_bytes(kept.read_bytes()) if (kept := paths.get(PROJECTION_NAME)) else None,
            )
        except (RuntimeError, KeyError, ValueError, pa.ArrowException) as error:
            raise StoreError(f"{directory} is damaged ({error}): build the index again") from error
        if (index.ntotal, index.d, len(keys)) != (manifest["rows"], manifest["dim"], manifest["rows"]):
            raise StoreError(
                f"{directory} holds {index.ntotal} vectors of width {index.d} and {len(keys)} keys, expected"
                f" {manifest['rows']} of width {manifest['dim']}: build the index again"
            )
        return opened

    def save(self, directory: str | Path) -> None:
        """Write the index to `directory`; an index that is there is replaced at once or, on failure, not at all.

        Raises
        ------
        StoreError
            The directory cannot be written.
        """
        faiss = load_faiss()
        description = {
            "rows": len(self),
            "dim": self.dim,
            "kind": self.kind,
            "metric": self.metric,
            "model": self.model,
            "description": dict(self.description),
            "output": self.output,
            "fingerprint": dict(self.fingerprint.fields),
            "settings": dict(self.settings),
        }

        def write_index(path: Path) -> None:
            try:
                if self.kind == "binary":
                    self._index.write(str(path))
                else:
                    faiss.write_index(self._index, str(path))
            except RuntimeError as error:  # how faiss reports a full disk
                raise OSError(str(error)) from error

        writers: dict[str, Callable[[Path], object]] = {
            "index.faiss": write_index,
            "keys.parquet": lambda path: pq.write_table(pa.table({"key": self._keys}), path),
        }
        if (projection := self.projection) is not None:
            writers[PROJECTION_NAME] = lambda path: path.write_bytes(projection.to_bytes())
        files.save_directory(Path(directory), description, writers)

    def search(self, vectors: npt.ArrayLike, k: int = 10, *, threads: int | None = None) -> Neighbours:
        """The `k` rows nearest to each query.

        Parameters
        ----------
        vectors : array-like, shape (N, D)
            Queries of any float type, from the space of :attr:`fingerprint`.
        k : int
            Neighbours per query; where the index has fewer rows, that many come back.
        threads : int, optional
            Threads for this search; None: what faiss is set to.

        Returns
        -------
        scores : ndarray, shape (N, min(k, len(self))), float32
            Cosine or dot product, falling; rows of equal score come in the order of the store.
        keys : ndarray, same shape, object
            Keys (str) of those rows.

        Raises
        ------
        ColdpressError
            Wrong shape or width, `k` below 1, a query that is not finite or, under cosine, all zeros.
        """
        if k < 1:
            raise ColdpressError(f"k is {k}, expected at least 1")
        queries = np.asarray(vectors)
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ColdpressError(
                f"queries have shape {queries.shape}, expected (N, {self.dim}): embed them with {self.model},"
                " and pass one vector as vector[None]"
            )
        prepared = prepare(queries, self.metric, lambda row: f"query {row}")
        with faiss_threads(threads) as faiss:
            scores, rows = self._search_rows(faiss, prepared, min(k, len(self)))
        return scores, self._keys_of(rows)

    def search_key(self, key: str, k: int = 10) -> Neighbours:
        """The `k` rows nearest to the row of `key`, itself left out.

        Returns
        -------
        scores, keys : ndarray, shape (min(k, len(self) - 1),), float32 and object
            As from :meth:`search`, for the one query.

        Raises
        ------
        ColdpressError
            `key` is not in the index, or `k` is below 1.
        """
        if k < 1:
            raise ColdpressError(f"k is {k}, expected at least 1")
        row = int(pc.index(self._keys, pa.scalar(key, pa.large_string())).as_py())
        if row < 0:
            raise ColdpressError(f"key {key!r} is not among the {len(self)} keys of the index")
        with faiss_threads(None) as faiss:
            query = self._index.reconstruct(row)[None]
            scores, rows = self._search_rows(faiss, query, min(k + 1, len(self)))
        others = np.flatnonzero(rows[0] != row)[:k]
        return scores[0, others], self._keys_of(rows[0, others])

    def check(self, fingerprint: Fingerprint) -> None:
        """Refuse queries whose vectors cannot be compared with those of the index.

        Those of the other tower of the same checkpoint can (:meth:`coldpress.Fingerprint.meets`): texts find images in
        an index of CLIP or SigLIP. Such a query runs in its own precision and with its own prompt, whatever the vectors
        of the index ran in.

        Raises
        ------
        FingerprintMismatch
            Naming what differs.
        """
        if not self.fingerprint.meets(fingerprint):
            differences = "; ".join(self.fingerprint.diff(fingerprint))
            raise FingerprintMismatch(
                f"the index and the vectors come from different spaces (index != vectors: {differences}): embed with"
                f" {self.model} and the same settings, or build an index of these vectors"
            )

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return int(self._index.d)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def __repr__(self) -> str:
        return (
            f"VectorIndex({len(self):,} x {self.dim}, kind={self.kind!r}, metric={self.metric!r}, model={self.model!r})"
        )

    def _search_rows(self, faiss: Any, queries: Floats, k: int) -> tuple[Floats, Rows]:
        """Scores and rows, both (N, k), by falling score and rising row; without holes."""
        fetch = min(k + TIE_SLACK, len(self))
        scores, rows = self._index.search(queries, fetch)
        nprobe = getattr(self._index, "nprobe", 0)
        while (short := np.flatnonzero(rows[:, k - 1] < 0)).size:  # the probed lists held fewer than k rows
            nprobe = min(2 * nprobe, self._index.nlist)
            parameters = faiss.SearchParametersIVF(nprobe=nprobe)
            scores[short], rows[short] = self._index.search(queries[short], fetch, params=parameters)
        order = np.lexsort((rows, -scores), axis=1)[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)

    def _keys_of(self, rows: Rows) -> npt.NDArray[np.object_]:
        found = self._keys.take(rows.ravel()).to_numpy(zero_copy_only=False)
        return cast("npt.NDArray[np.object_]", found.reshape(rows.shape))


def _of_output(fingerprint: Fingerprint, output: str) -> Fingerprint:
    """The fingerprint of one output of a store: only the model's own vectors live in the space of two towers."""
    if output == "pooled" or "space" not in fingerprint.fields:
        return fingerprint
    return Fingerprint({name: value for name, value in fingerprint.fields.items() if name != "space"})


def _chosen_kind(asked: str, metric: Metric, rows: int, dtype: str) -> Kind:
    """How to find neighbours among so many rows of this dtype."""
    if dtype == "binary":
        if asked != "auto" or metric != "cosine":
            raise ColdpressError(
                f"the store holds one bit a dimension (binary), which kind {asked!r} with metric {metric!r} cannot "
                "index: leave both at their defaults, or embed with --dtype int8"
            )
        return "binary"
    if asked == "ivf" and rows < MIN_ROWS:
        raise ColdpressError(f"kind 'ivf' needs at least {MIN_ROWS} rows, got {rows}: use kind='exact'")
    if asked != "auto":
        return cast(Kind, asked)
    return "exact" if rows < EXACT_BELOW else "ivf"
