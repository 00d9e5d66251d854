"""`VectorIndex`: nearest neighbours in one vector space, kept together with the keys and that space's fingerprint."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coldpress.errors import ColdpressError
from coldpress.index import changes, saving
from coldpress.index._faiss import faiss_threads
from coldpress.index.build import Say
from coldpress.index.building import build_contents
from coldpress.index.contents import Contents
from coldpress.index.measure import measure_again
from coldpress.index.plan import IndexPlan, Kind
from coldpress.index.planning import plan_of_store
from coldpress.index.recall import RecallCertificate
from coldpress.index.vectors import Floats, Metric, prepare
from coldpress.index.where import Where
from coldpress.store.keys import Keys
from coldpress.types import Fingerprint

if TYPE_CHECKING:
    from coldpress.index.joined import JoinedStore
    from coldpress.store import EmbeddingStore

logger = logging.getLogger(__name__)

Neighbours = tuple[Floats, npt.NDArray[np.object_]]


class VectorIndex:
    """Nearest neighbours among the vectors of a store.

    Made by :meth:`build`, :meth:`open` or :meth:`merge`. Searching is safe from several threads at once, but not while
    the index is changed.

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
    dim : int
        Width D of the vectors.
    kind : {"exact", "hnsw", "ivf", "binary", "factory"}

    Examples
    --------
    >>> index = VectorIndex.build(store)                                        # doctest: +SKIP
    >>> scores, keys = index.search(vectors, k=10, where={"label": "cat"})      # doctest: +SKIP
    >>> index.save("photos.index")                                              # doctest: +SKIP
    """

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        space = contents.space
        self.fingerprint, self.model, self.description = space.fingerprint, space.model, space.description
        self.output, self.projection = space.output, space.projection
        self.metric: Metric = space.metric
        self.kind: Kind = contents.kind
        self.dim = int(contents.index.d)

    @classmethod
    def forecast(
        cls,
        store: EmbeddingStore | JoinedStore,
        *,
        kind: Literal["auto", "exact", "hnsw", "ivf"] = "auto",
        factory: str | None = None,
        memory: int | None = None,
        metric: Metric = "cosine",
        output: str | None = None,
    ) -> IndexPlan:
        """What :meth:`build` would make with these arguments, and the memory it would take; nothing is built.

        Raises
        ------
        ColdpressError
            As from :meth:`build`.
        """
        return plan_of_store(store, kind=kind, factory=factory, memory=memory, metric=metric, output=output)

    @classmethod
    def build(
        cls,
        store: EmbeddingStore | JoinedStore,
        *,
        kind: Literal["auto", "exact", "hnsw", "ivf"] = "auto",
        recall: float = 0.95,
        memory: int | None = None,
        factory: str | None = None,
        metric: Metric = "cosine",
        output: str | None = None,
        threads: int | None = None,
        seed: int = 0,
        progress: Say | None = None,
    ) -> VectorIndex:
        """Index every row of a store.

        The vectors are read block by block, and the memory that takes is known before (:meth:`forecast`). The same
        store, seed and ``threads=1`` give the same index.

        Parameters
        ----------
        store : EmbeddingStore
        kind : {"auto", "exact", "hnsw", "ivf"}
            ``"exact"`` compares with every row, ``"hnsw"`` walks a graph, ``"ivf"`` reads 4-bit codes of the nearest
            clusters and looks at the best again. ``"auto"`` is exact below 10,000 rows, a graph below 200,000 (cosine
            only), else ``"ivf"``, with vectors of a half or a quarter of float32 as memory allows. A store of signs
            (``--dtype binary``) always becomes a ``"binary"`` index: the rows nearest by Hamming distance, ranked by
            the cosine of the query with their signs, at a bit a dimension.
        recall : float
            recall@10 that a search is tuned to, on queries held out from the data.
        memory : int, optional
            Bytes that building may add to the process; None: four fifths of what the machine has left.
        factory : str, optional
            A description in the language of faiss, such as ``"IVF4096,SQ8"``, instead of `kind`.
        metric : {"cosine", "dot"}
            ``"cosine"`` scales rows and queries to unit length; ``"dot"`` takes them as they are.
        output : str, optional
            Which output of a store that holds several; None: its first.
        threads : int, optional
            Threads for building; None: what faiss is set to.
        seed : int
            For the sample, the held-out queries and the clustering.
        progress : callable, optional
            Told, block by block, what is being done.

        Raises
        ------
        ColdpressError
            An empty store, a row that is not finite or, under cosine, all zeros, an unknown kind, metric or factory,
            an index that does not fit into memory.
        """
        built = cls(
            build_contents(
                store,
                kind=kind,
                recall=recall,
                memory=memory,
                factory=factory,
                metric=metric,
                output=output,
                threads=threads,
                seed=seed,
                progress=progress,
            )
        )
        if built.advice:
            logger.warning("%s", built.advice)
        return built

    @classmethod
    def open(cls, directory: str | Path, *, verify: bool = True, memory_map: bool = False) -> VectorIndex:
        """Read an index that :meth:`save` wrote.

        Parameters
        ----------
        verify : compare its files with their SHA-256 first, which reads all of them.
        memory_map : leave the vectors on disk, for the system to read what searches touch; in memory are the keys.

        Raises
        ------
        StoreError
            `directory` is not an index, is of another format version, incomplete or damaged.
        """
        return cls(saving.open_contents(Path(directory), verify=verify, memory_map=memory_map))

    def save(self, directory: str | Path) -> None:
        """Write the index to `directory`; an index that is there is replaced at once or, on failure, not at all.

        After changes the recall is measured again first, and searches are made to work harder where it has fallen.

        Raises
        ------
        StoreError
            The directory cannot be written.
        """
        self._measure()
        saving.save(self._contents, Path(directory))

    @classmethod
    def merge(cls, indices: Sequence[VectorIndex]) -> VectorIndex:
        """One index of the rows of several, with the clustering and the settings of the first.

        Parts that shall be merged well are of the same data in random order, so that one clustering suits all.

        Raises
        ------
        ColdpressError
            There is none, or they share a key.
        FingerprintMismatch
            They are of different spaces.
        """
        with faiss_threads(None) as faiss:
            merged = cls(changes.merge([index._contents for index in indices], faiss))
        merged._measure()
        return merged

    def to(self, device: Literal["auto", "cpu", "cuda"]) -> VectorIndex:
        """Search on GPUs from now on, or on the CPU again; returns itself.

        On GPUs every row is compared with each query, which suits many queries at a time; it takes faiss-gpu and the
        memory for all vectors there. Conditions, removed rows and a `k` above 2,000 are left to the CPU, and so is
        everything after rows have changed. ``"auto"`` is the GPUs where that works, else the CPU.

        Raises
        ------
        ColdpressError
            ``"cuda"``, and there is no GPU, no faiss-gpu or too little memory.
        """
        with faiss_threads(None) as faiss:
            self._contents.move(faiss, device)
        return self

    def add(self, store: EmbeddingStore, *, threads: int | None = None) -> int:
        """Append the rows of a store, none of whose keys may be there yet; returns how many.

        Raises
        ------
        ColdpressError
            A key is there already, or a row is not finite or has no direction; nothing is added.
        FingerprintMismatch
            The store is of another space.
        """
        with faiss_threads(threads) as faiss:
            return changes.add(self._contents, faiss, store)

    def remove(self, keys: Sequence[str]) -> int:
        """Let rows be found no more; returns how many had one of these keys. :meth:`compact` frees their memory."""
        return changes.remove(self._contents, keys)

    def upsert(self, store: EmbeddingStore, *, threads: int | None = None) -> int:
        """Append the rows of a store in place of those with the same keys; returns how many were replaced.

        Raises
        ------
        ColdpressError, FingerprintMismatch
            As from :meth:`add`; nothing is changed.
        """
        with faiss_threads(threads) as faiss:
            return changes.upsert(self._contents, faiss, store)

    def compact(self, *, threads: int | None = None) -> None:
        """Free the memory of removed rows: those that are left are added to an empty index with the same clustering.

        While that lasts, both are in memory.
        """
        with faiss_threads(threads) as faiss:
            changes.compact(self._contents, faiss)

    def search(
        self, vectors: npt.ArrayLike, k: int = 10, *, where: Where | None = None, threads: int | None = None
    ) -> Neighbours:
        """The `k` rows nearest to each query.

        Parameters
        ----------
        vectors : array-like, shape (N, D)
            Queries of any float type, from the space of :attr:`fingerprint`.
        k : int
            Neighbours per query; where fewer rows may be found, that many come back.
        where : optional
            Conditions on the metadata that every neighbour meets: ``"label = cat"`` (or ``!=``, ``<``, ``<=``, ``>``,
            ``>=``; several in a list), ``{"label": "cat"}``, ``{"label": ["cat", "dog"], "year": {">=": 1990}}``, or an
            expression of ``pyarrow.compute``.
        threads : int, optional
            Threads for this search; None: what faiss is set to.

        Returns
        -------
        scores : ndarray, shape (N, K), float32
            Cosine or dot product with the vectors as the index keeps them, falling; rows of equal score come in the
            order of the store. K is the least of `k` and the number of rows that may be found.
        keys : ndarray, same shape, object
            Keys (str) of those rows.

        Raises
        ------
        ColdpressError
            Wrong shape or width, `k` below 1, a query that is not finite or, under cosine, all zeros; a condition on
            an unknown column or with a value of another type.
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
            scores, rows = self._contents.search(faiss, prepared, k, where)
        return scores, self._contents.keys_of(rows)

    def search_key(self, key: str, k: int = 10, *, where: Where | None = None) -> Neighbours:
        """The `k` rows nearest to the one with that key, without itself.

        Returns
        -------
        scores, keys : ndarray, shape (min(k, others that may be found),), float32 and object
            As from :meth:`search`, for the one query.

        Raises
        ------
        ColdpressError
            `key` is not in the index, or `k` is below 1; as from :meth:`search`.
        """
        if k < 1:
            raise ColdpressError(f"k is {k}, expected at least 1")
        contents = self._contents
        row = contents.rows_of([key])
        with faiss_threads(None) as faiss:
            scores, rows = contents.search(faiss, contents.vectors(row), k + 1, where)
        others = np.flatnonzero(rows[0] != row)[:k]
        return scores[0, others], contents.keys_of(rows[0, others])

    def check(self, fingerprint: Fingerprint) -> None:
        """Refuse queries whose vectors cannot be compared with those of the index.

        Those of the other tower of the same checkpoint can (:meth:`coldpress.Fingerprint.meets`), in whatever precision
        and with whatever prompt they ran: texts find images in an index of CLIP or SigLIP.

        Raises
        ------
        FingerprintMismatch
            Naming what differs.
        """
        self._contents.space.check(fingerprint)

    def metadata(self, keys: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """What is known of some rows: column ``key`` and `columns`, or all that there are (:attr:`columns`).

        Raises
        ------
        ColdpressError
            A key or a column is not in the index.
        """
        return self._contents.rows.take(self._contents.rows_of(list(keys)), columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the metadata columns that `where` can ask for, beside ``key``."""
        return self._contents.rows.columns

    def choices(self, most: int) -> Mapping[str, Sequence[Any]]:
        """The values of the columns that have two to `most` of them, the most frequent first; reads all rows."""
        return self._contents.choices(most)

    @property
    def keys(self) -> Keys:
        """The key of every row that can be found."""
        keys, removed = self._contents.rows.keys, self._contents.removed
        return Keys(keys.filter(pa.array(~removed)) if removed.any() else keys)

    @property
    def settings(self) -> Mapping[str, Any]:
        """How it was built and tuned; always has ``recall_at_10``, None of ``"binary"`` as in `certificate`."""
        return MappingProxyType({**self._contents.settings, "recall_at_10": self.certificate.recall_at_10})

    @property
    def certificate(self) -> RecallCertificate:
        """What a search finds and takes; measured when it was built, and again when it is asked for after changes."""
        self._measure()
        return self._contents.certificate

    @property
    def advice(self) -> str | None:
        """What would do the index good, if anything: a rebuild, a compaction."""
        self._measure()
        return changes.advice(self._contents)

    def __len__(self) -> int:
        return len(self._contents)

    def __repr__(self) -> str:
        shape = f"{len(self):,} x {self.dim}"
        return f"VectorIndex({shape}, kind={self.kind!r}, metric={self.metric!r}, model={self.model!r})"

    def _measure(self) -> None:
        """Measure again what has changed."""
        if self._contents.stale:
            with faiss_threads(None) as faiss:
                measure_again(faiss, self._contents)
            if problem := self.advice:
                logger.warning("%s", problem)
