"""What the page of a probe shows beside its numbers: a map of the items, and the items it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldpress.cli._originals import find_originals

if TYPE_CHECKING:
    from coldpress import EmbeddingStore
    from coldpress.probes import ProbeResult


def write(
    path: Path,
    result: ProbeResult,
    stores: Sequence[EmbeddingStore],
    test_store: EmbeddingStore | None,
    labels: str,
    data: Mapping[str, Any],
) -> None:
    """Write the page of a probe that was trained on one of the stores, by labels of the first."""
    import numpy as np

    from coldpress.embedding_map import draw_map
    from coldpress.probes import read_labels
    from coldpress.report.probe import PAIRS_SHOWN, Shown, write_probe

    store = next(one for one in stores if one.fingerprint.digest == result.head.fingerprint.digest)
    known = read_labels(stores[0], labels)
    label_of = dict(zip(stores[0].keys[known.rows].tolist(), known.values.tolist(), strict=True))
    rows = known.rows if store is stores[0] else np.asarray([store.row(key) for key in label_of])
    drawn = draw_map(store, result.head.output, rows=rows)
    pairs = result.leaks[:PAIRS_SHOWN]
    named = [one.key for one in result.examination.mistakes] + [one for one, *_ in pairs]
    shown = Shown(
        points=drawn.points,
        keys=drawn.keys,
        labels=[str(label_of[key]) for key in drawn.keys],
        mapped=find_originals(store, drawn.keys),
        tested=find_originals(test_store or store, named, pictures=True),
        trained=find_originals(store, [other for _, other, _ in pairs], pictures=True),
    )
    write_probe(path, result, shown, data)
