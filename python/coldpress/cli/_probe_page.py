"""What the page of a probe shows beside its numbers: a map of the items, and the items it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldpress.cli._originals import find_originals

if TYPE_CHECKING:
    from coldpress import EmbeddingStore
    from coldpress.probes import MultilabelResult, ProbeResult, RegressionResult
    from coldpress.probes.labels import Labels
    from coldpress.probes.result import Conditions
    from coldpress.report.probe_parts import Shown


def write(
    path: Path,
    result: ProbeResult | RegressionResult | MultilabelResult,
    stores: Sequence[EmbeddingStore],
    test_store: EmbeddingStore | None,
    labels: str,
    data: Mapping[str, Any],
    separator: str | None = None,
) -> None:
    """Write the page of a probe that was trained on one of the stores, by labels of the first."""
    from coldpress.probes import ProbeResult, RegressionResult, read_labels
    from coldpress.probes.labels import read_label_sets, read_numbers
    from coldpress.report.probe import write_probe
    from coldpress.report.probe_tasks import write_numbers, write_sets

    if isinstance(result, ProbeResult):
        known = read_labels(stores[0], labels)
        named = [one.key for one in result.examination.mistakes]
        shown = _shown(result, stores, test_store, known, [str(label) for label in known.values.tolist()], named)
        write_probe(path, result, shown, data)
    elif isinstance(result, RegressionResult):
        known = read_numbers(stores[0], labels)
        named = [one.key for one in result.evaluation.errors]
        write_numbers(path, result, _shown(result, stores, test_store, known, known.values.tolist(), named), data)
    else:
        known = read_label_sets(stores[0], labels, separator)
        sets = [", ".join(str(known.names[place]) for place in row.nonzero()[0]) or "none" for row in known.values]
        write_sets(path, result, _shown(result, stores, test_store, known, sets, []), data)


def _shown(
    result: Conditions,
    stores: Sequence[EmbeddingStore],
    test_store: EmbeddingStore | None,
    known: Labels,
    values: Sequence[Any],
    named: Sequence[str],
) -> Shown:
    """The labelled items, `values` of the `known` rows, in the plane; and the `named` test items."""
    import numpy as np

    from coldpress.embedding_map import draw_map
    from coldpress.report.probe_parts import PAIRS_SHOWN, Shown

    store = next(one for one in stores if one.fingerprint.digest == result.head.fingerprint.digest)
    label_of = dict(zip(stores[0].keys[known.rows].tolist(), values, strict=True))
    rows = known.rows if store is stores[0] else np.asarray([store.row(key) for key in label_of])
    drawn = draw_map(store, result.head.output, rows=rows)
    pairs = result.leaks[:PAIRS_SHOWN]
    return Shown(
        points=drawn.points,
        keys=drawn.keys,
        labels=[label_of[key] for key in drawn.keys],
        mapped=find_originals(store, drawn.keys),
        tested=find_originals(test_store or store, [*named, *(one for one, *_ in pairs)], pictures=True),
        trained=find_originals(store, [other for _, other, _ in pairs], pictures=True),
    )
