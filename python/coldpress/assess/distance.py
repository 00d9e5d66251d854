"""How far the items that are assessed are from those that somebody knows: the same measures as of drift."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coldpress.assess.draw import Contender
from coldpress.assess.result import Distance
from coldpress.drift import detect_drift

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore


def distance(contender: Contender, reference: EmbeddingStore, seed: int) -> Distance:
    """Compare all items of a contender's store with those of `reference`; raises as :func:`detect_drift` does.

    The proxy A-distance is ``2 (1 - 2 e)`` for the error e of a linear classifier that tells items of the one from
    those of the other, both weighing the same (Ben-David et al. 2007).
    """
    found = detect_drift(reference, contender.store, output=contender.output, items=0, seed=seed)
    effects = found.effects
    return Distance(
        store=str(contender.store.path),
        reference=str(reference.path),
        output=contender.output,
        mmd=found.verdict.statistic,
        mmd_p=found.verdict.p_value,
        frechet=effects.frechet,
        variance=effects.variance,
        proxy_a=2 * effects.separation.changed,
        proxy_a_interval=(2 * effects.separation.interval[0], 2 * effects.separation.interval[1]),
    )
