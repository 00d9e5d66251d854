"""Variants of a model for people: one table, its legend, and what the numbers rest on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coldpress.cli._command import Result
from coldpress.cli._format import count, facts, size, table
from coldpress.cli._progress import steps
from coldpress.errors import ColdpressError

if TYPE_CHECKING:
    from coldpress import Extractor
    from coldpress.probes import Comparison, Cut, Drawn, Variant
    from coldpress.types import Item

NARROW = 100
"""Columns of a terminal below which the table leaves out the lowest cosine."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Which items are compared, and how they are used; `labels` is a column, a file or None."""

    labels: str | None
    most: int
    samples: int
    test_size: float
    seed: int


def variants_of(
    build: Callable[..., Extractor], whole: Extractor, layers: Sequence[int], merges: Sequence[int], precision: str
) -> Iterator[tuple[Cut, Extractor]]:
    """Make the extractors one by one, what has to be refused first; the whole model in fp32 is always among them."""
    from coldpress.probes import Cut

    depth = whole.model.backbone.depth
    if max(layers, default=0) > depth:
        raise typer.BadParameter(f"--layers {max(layers)}: this model has {depth} blocks")
    depths = [None, *sorted({number for number in layers if number < depth}, reverse=True)]
    cuts = {Cut(number, merged) for number in depths for merged in (0, *merges)} - {Cut()}
    for cut in sorted(cuts, key=lambda cut: (-cut.merge_tokens, depths.index(cut.layers))):
        yield cut, build(precision=precision, **asdict(cut))
    yield Cut(), whole
    if precision not in ("auto", "fp32"):
        yield Cut(), build(precision="fp32")


def compare(
    extractor: Extractor,
    variants: Iterable[tuple[Cut, Extractor]],
    items: Iterable[Item],
    drawing: Drawing,
    report: Path | None,
) -> Result:
    """Compare variants on items of a source, and write the page if one is asked for."""
    from coldpress.probes import compare_variants, draw_labelled

    labels, seed = drawing.labels, drawing.seed
    drawn = None if labels is None else draw_labelled(items, labels, drawing.most, seed=seed)
    if drawn is not None:
        _check_classes(drawn)
    with steps(f"Comparing variants of {extractor.name}") as say:
        compared = compare_variants(
            variants,
            list(items) if drawn is None else drawn.items,
            None if drawn is None else drawn.labels,
            samples=drawing.samples,
            test_size=drawing.test_size,
            seed=seed,
            on_variant=say,
        )
    if report is not None:
        from coldpress.report.variants import write_variants

        write_variants(report, extractor.name, compared, drawn)

    def render(console: Console) -> None:
        render_comparison(console, f"{extractor.name} on {extractor.device}", compared, drawn)
        if report is not None:
            console.print(f"\n[dim]Page:[/] {report}", soft_wrap=True)

    read = {} if drawn is None else {"read": drawn.read, "labelled": drawn.labelled, "items": len(drawn.items)}
    asked = [one for one in compared.variants if extractor.precision in ("fp32", one.certificate.precision)]
    failure = None
    if all(one.refused for one in asked):
        failure = f"no variant in {extractor.precision} is close enough to the fp32 reference"
    return Result({"model": extractor.name, **read, **compared.to_json()}, render, failure)


def _check_classes(drawn: Drawn) -> None:
    """Say what to do where the draw, not the data, left a class with too few items to learn and test it."""
    counts = Counter(drawn.labels.tolist())
    rare = sum(number < 3 for number in counts.values())
    if rare and len(drawn.items) < drawn.labelled:
        raise ColdpressError(
            f"{rare} of {len(counts)} classes have fewer than 3 of the {len(drawn.items):,} items drawn: raise"
            f" --probe-items, {drawn.labelled:,} have a label"
        )


def render_comparison(console: Console, model: str, compared: Comparison, drawn: Drawn | None) -> None:
    """Say what was compared, on what, and what is worth taking."""
    console.print(facts({"model": model, **_items(compared, drawn), **_probe(compared)}))
    console.print()
    console.print(variant_table(compared, narrow=console.width < NARROW))
    console.print()
    for line in _legend(compared):
        console.print(line, style="dim")
    for variant in compared.variants:
        if variant.refused is not None:
            console.print(Text.assemble(("✗ ", "red"), f"{variant.cut}, {variant.precision}: {variant.refused}"))


def _items(compared: Comparison, drawn: Drawn | None) -> dict[str, object]:
    if drawn is None:
        return {"failed": f"{compared.failed:,}" if compared.failed else None}
    taken = f"{len(drawn.items):,}" if len(drawn.items) == drawn.labelled else f"{len(drawn.items):,} drawn at random"
    return {
        "items": f"{taken} of {drawn.labelled:,} with a label, of {drawn.read:,} read",
        "failed": f"{compared.failed:,}" if compared.failed else None,
    }


def _probe(compared: Comparison) -> dict[str, object]:
    if compared.majority_baseline is None:
        return {}
    shared = f"{count(compared.shared_content, 'test item')} with the content of a training item: too optimistic"
    return {
        "probe": f"trained on {count(compared.train_items, 'item')}, tested on {compared.test_items:,} others",
        "majority baseline": f"{compared.majority_baseline:.1%} (always answering the most frequent class)",
        "shared content": Text(shared, "yellow") if compared.shared_content else None,
    }


def variant_table(compared: Comparison, *, narrow: bool) -> Table:
    """One row a variant; the change of accuracy in points, as an interval."""
    probed = compared.majority_baseline is not None
    accuracy = (">accuracy", ">change, 95 %") if probed else ()
    lowest = () if narrow else (">lowest",)
    shown = table("", "network", "precision", ">cosine", *lowest, ">10-NN", ">items/s", ">weights", *accuracy)
    if narrow:
        shown.padding = (0, 1, 0, 0)
    for variant in compared.variants:
        shown.add_row(
            Text("✗", "red") if variant.refused is not None else Text("★" if variant.optimal else "", "yellow"),
            str(variant.cut),
            variant.precision,
            _cosine(variant.cosine_mean),
            *(() if narrow else (_cosine(variant.cosine_min),)),
            f"{variant.overlap:.1%}",
            f"{variant.items_per_s:,.0f}",
            size(variant.weight_bytes),
            *(_accuracy(variant, compared.variants[0]) if probed else ()),
            style="dim" if variant.refused is not None else "",
        )
    return shown


def _cosine(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _accuracy(variant: Variant, whole: Variant) -> tuple[str, str]:
    if variant.evaluation is None or variant.change_interval is None:
        return "–", "–"
    low, high = variant.change_interval
    change = "–" if variant is whole else f"{100 * low:+.1f} to {100 * high:+.1f}"
    return f"{variant.evaluation.accuracy:.1%}", change


def _legend(compared: Comparison) -> list[str]:
    whole = compared.variants[0]
    merit = "10-NN overlap" if whole.evaluation is None else "accuracy"
    lines = [
        f"★ on the Pareto front of {merit}, speed and memory: nothing is better in all",
        f"cosine, 10-NN: with all layers in fp32, on {count(whole.certificate.samples, 'item')}; fewer layers are"
        " another space",
    ]
    if any(one.cut.merge_tokens for one in compared.variants):
        lines.append("merged: patches of an image that each block merges into the most similar others")
    if whole.evaluation is not None:
        lines.append("change: in points of accuracy, on the same test items")
    return lines
