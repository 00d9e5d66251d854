"""`assess`: which features suit the labels, and whether they are worth having at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from coldpress.assess.baselines import raw_features, untrained
from coldpress.assess.distance import distance
from coldpress.assess.draw import Contender, Draw, draw
from coldpress.assess.judge import Judged, judge
from coldpress.assess.originals import find_originals, modality_of
from coldpress.assess.paired import ALPHA, Difference, adjusted, difference
from coldpress.assess.result import RANDOM, RAW, Assessment, Candidate, Distance
from coldpress.assess.similarity import cka
from coldpress.assess.verdict import disagreements, outcome_of, sentence
from coldpress.data import Columns
from coldpress.errors import ColdpressError
from coldpress.probes.features import Features
from coldpress.probes.labels import LabelSource
from coldpress.recipe import columns_of
from coldpress.types import Content

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

Say = Callable[[str], None]
Pairs = dict[tuple[str, str], Difference]

ITEMS = 2000
"""Drawn where there are more: then accuracies are known to 2 points, and the baselines take seconds to minutes."""


def assess(
    stores: EmbeddingStore | Sequence[EmbeddingStore],
    labels: LabelSource = "label",
    *,
    outputs: Sequence[str] = (),
    items: int = ITEMS,
    data: Any = None,
    columns: Columns | None = None,
    reference: EmbeddingStore | None = None,
    seed: int = 0,
    on_step: Say | None = None,
) -> Assessment:
    """Score stored features for some labels, beside the raw input and the same network with random weights.

    All are judged on the same items, each classified by a probe that has not seen it, in the same folds.

    Parameters
    ----------
    stores : EmbeddingStore, or several
        That hold vectors of the same items, by key.
    labels : str, Path, mapping or sequence
        A metadata column, a file, or the labels themselves, of the first store: see :func:`read_labels`.
    outputs : which of their outputs; by default all with a vector an item.
    items : how many are judged, drawn at random where more are labelled.
    data : where the originals are now, as for :meth:`Extractor.run`, told by their keys. None: where the store says.
    columns : of their files.
    reference : items of the domain that is known, in the space of one of the stores: how far are these from them?
    seed : for the draw, the folds, and the random weights.
    on_step : called with what is done next.

    Raises
    ------
    ColdpressError
        Labels not found or unusable, fewer than two classes, an item or output that a store lacks, a vector that is not
        finite; `data` without the originals.

    Examples
    --------
    >>> found = assess(store, "label")                        # doctest: +SKIP
    >>> found.outcome, found.best.name                        # doctest: +SKIP
    ('positive', 'layer:5')
    """
    started, say = time.perf_counter(), on_step or (lambda step: None)
    compared = list(stores) if isinstance(stores, Sequence) else [stores]
    drawn = draw(compared, labels, outputs, items, seed)

    def judged(name: str, features: Features) -> Judged:
        say(name)
        return judge(features, drawn.codes, drawn.folds, columns=len(drawn.classes), seed=seed)

    found = {one.name: judged(one.name, one.features) for one in drawn.contenders}
    lacking: dict[str, str] = {}
    contents = _originals(drawn, data, columns, lacking)
    raw = None
    if contents is not None:
        modality = modality_of(drawn.contenders[0].store)
        raw = judged(RAW, raw_features(contents, modality))
    random: dict[str, Judged] = {}
    for store in compared if contents is not None else ():
        own = [one for one in drawn.contenders if one.store is store]
        for name, features in _random_features(store, own, contents or [], seed, say, lacking).items():
            random[name] = judged(f"{name} with random weights", features)
    candidates = _candidates(drawn, found, raw, random)
    best, folds = candidates[0], int(drawn.folds.max()) + 1
    near = {
        name: difference(found[best.name].knn, theirs.knn, folds)
        for name, theirs in ((RAW, raw), (RANDOM, random.get(best.name)))
        if theirs is not None
    }
    vectors = {one.name: one.features for one in drawn.contenders}
    say("similarities")
    return Assessment(
        verdict=sentence(candidates, lacking),
        outcome=best.outcome,
        candidates=candidates,
        raw=None if raw is None else raw.scores,
        lacking=lacking,
        disagreements=tuple(disagreements(candidates, None if raw is None else raw.scores, near)),
        items=len(drawn.codes),
        labelled=drawn.labelled,
        classes=drawn.classes,
        majority=float(np.bincount(drawn.codes).max() / len(drawn.codes)),
        folds=folds,
        cka=cka([vectors[one.name] for one in candidates]) if len(candidates) > 1 else (),
        distances=_distances(drawn, candidates, reference, seed),
        alpha=ALPHA,
        seed=seed,
        seconds=time.perf_counter() - started,
    )


def _distances(
    drawn: Draw, candidates: Sequence[Candidate], reference: EmbeddingStore | None, seed: int
) -> tuple[Distance, ...]:
    """Of the best candidate whose space the reference shares."""
    if reference is None:
        return ()
    contenders = {one.name: one for one in drawn.contenders}
    alike = (contenders[one.name] for one in candidates)
    one = next((c for c in alike if c.store.fingerprint.digest == reference.fingerprint.digest), None)
    return (distance(one or contenders[candidates[0].name], reference, seed),)


def _originals(drawn: Draw, data: Any, columns: Columns | None, lacking: dict[str, str]) -> list[Content] | None:
    """The items themselves; None, and why in `lacking`, where nobody has said where they are and they are not there."""
    first = drawn.contenders[0]
    try:
        return find_originals(first.store, first.rows, data, columns)
    except ColdpressError as error:
        if data is not None:
            raise
        lacking |= dict.fromkeys((RAW, RANDOM), f"{error} (name them with --data)")
        return None


def _random_features(
    store: EmbeddingStore,
    own: Sequence[Contender],
    contents: Sequence[Content],
    seed: int,
    say: Say,
    lacking: dict[str, str],
) -> dict[str, Features]:
    """Of each of a store's contenders, by its name, the vectors that random weights give."""
    try:
        extractor = untrained(store, seed)
        say(f"embedding {len(contents):,} items with random weights of {store.model}")
        vectors = extractor.embed(contents)
    except ColdpressError as error:  # the model has moved; a store of texts beside one of images
        lacking[RANDOM] = str(error)
        return {}
    rows = np.arange(len(contents))
    return {one.name: Features(vectors[:, columns_of(extractor, one.output)], rows, str) for one in own}


def _candidates(
    drawn: Draw, found: Mapping[str, Judged], raw: Judged | None, random: Mapping[str, Judged]
) -> tuple[Candidate, ...]:
    """All of them with their evidence, the best probe first.

    What is said of baselines is adjusted for all that is said of them, and so is what is said of the best.
    """
    folds = int(drawn.folds.max()) + 1
    order = sorted(drawn.contenders, key=lambda one: -found[one.name].scores.probe.accuracy)
    best = found[order[0].name]

    def differences(names: Iterable[tuple[str, str, Judged | None]]) -> Pairs:
        pairs = {
            (ours, theirs): difference(found[ours].probe, judged.probe, folds)
            for ours, theirs, judged in names
            if judged is not None
        }
        return dict(zip(pairs, adjusted(pairs.values()), strict=True))

    evidence = differences(
        (one.name, name, judged) for one in order for name, judged in ((RAW, raw), (RANDOM, random.get(one.name)))
    )
    behind = differences((one.name, order[0].name, best) for one in order[1:])
    candidates = []
    for one in order:
        against = {name: evidence[one.name, name] for name in (RAW, RANDOM) if (one.name, name) in evidence}
        candidates.append(
            Candidate(
                name=one.name,
                store=str(one.store.path),
                model=one.store.model,
                output=one.output,
                scores=found[one.name].scores,
                random=random[one.name].scores if one.name in random else None,
                against=against,
                behind=behind.get((one.name, order[0].name)),
                outcome=outcome_of(against),
            )
        )
    return tuple(candidates)
