"""The page of variants: what each costs and brings, as a figure and as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log10
from pathlib import Path
from typing import Any

from coldpress.probes import Comparison, Drawn, Variant
from coldpress.report.figures import ACCENT, QUIET, graph_objects, styled
from coldpress.report.page import Section, figure_html, paragraph, table_html, write_page

REFUSED = "#d64f6b"


def write_variants(path: Path, model: str, compared: Comparison, drawn: Drawn | None) -> None:
    """Write the page; raises as :func:`write_page` does."""
    whole = compared.variants[0]
    best = max((one for one in compared.variants if one.refused is None), key=lambda one: one.items_per_s)
    numbers = {
        "variants": f"{len(compared.variants)}",
        "worth a choice (Pareto)": f"{sum(one.optimal for one in compared.variants)}",
        f"times as fast: {_name(best)}": f"{best.items_per_s / whole.items_per_s:.1f}",
    }
    if whole.evaluation is not None:
        numbers["accuracy of the whole model in fp32"] = f"{whole.evaluation.accuracy:.1%}"
    write_page(
        path,
        title=f"Faster variants of {Path(model).name}, and what they cost",
        lead=_lead(compared, drawn),
        numbers=numbers,
        sections=[_trade_off(compared), _table(compared)],
        data=compared.to_json(),
    )


def _lead(compared: Comparison, drawn: Drawn | None) -> str:
    whole = compared.variants[0]
    if drawn is None:
        return f"{_what(compared)} against the whole model in fp32: {whole.certificate.samples} items."
    return (
        f"{_what(compared)} against the whole model in fp32: a linear probe on the vectors of each, "
        f"trained on {compared.train_items:,} items and tested on {compared.test_items:,} others, the same for all. "
        f"{len(drawn.items):,} items of {drawn.labelled:,} with a label, of {drawn.read:,} read."
    )


def _what(compared: Comparison) -> str:
    merging = any(one.cut.merge_tokens for one in compared.variants)
    return f"Fewer layers{', merged patches' if merging else ''} and coarser arithmetic"


def _name(variant: Variant) -> str:
    return f"{variant.cut}, {variant.precision}"


def _trade_off(compared: Comparison) -> Section:
    probed = compared.variants[0].evaluation is not None
    measure = "change of accuracy, with its 95 % interval" if probed else "10-NN overlap with the whole model"
    note = (
        f"Up: {measure}. Right: items a second. The area of a point is the memory of the weights. Blue: no other "
        "variant is at least as good in all three and better in one. Red: refused by its certificate. Numbers as below."
    )
    return Section("Cost and gain", paragraph(note, "note") + figure_html(trade_off_figure(compared)))


def trade_off_figure(compared: Comparison) -> Any:
    """Items a second against the change of accuracy in points, or against the overlap without labels."""
    go = graph_objects()
    probed = compared.variants[0].evaluation is not None
    largest = max(one.weight_bytes for one in compared.variants) or 1
    figure = go.Figure()
    kinds = (
        ("passed, not on the Pareto front", QUIET, lambda one: one.refused is None and not one.optimal),
        ("Pareto front", ACCENT, lambda one: one.optimal),
        ("refused", REFUSED, lambda one: one.refused is not None),
    )
    for kind, colour, belongs in kinds:
        numbers, chosen = _where(belongs, compared)
        if not chosen:
            continue
        heights = [_height(one) for one in chosen]
        bars = [one.change_interval or (0.0, 0.0) for one in chosen]
        figure.add_scatter(
            x=[one.items_per_s for one in chosen],
            y=heights,
            mode="markers+text",
            name=kind,
            text=numbers,
            textposition="middle center",
            cliponaxis=False,
            marker={
                "size": [38 * (one.weight_bytes / largest) ** 0.5 for one in chosen],
                "color": colour,
                "opacity": 0.85,
            },
            error_y={
                "visible": probed,
                "type": "data",
                "symmetric": False,
                "array": [100 * high - y for (_, high), y in zip(bars, heights, strict=True)],
                "arrayminus": [y - 100 * low for (low, _), y in zip(bars, heights, strict=True)],
                "color": colour,
                "thickness": 1.2,
            },
            customdata=[_hover(one) for one in chosen],
            hovertemplate="%{customdata}<extra></extra>",
        )
    figure.update_xaxes(title="items a second", **_speed_axis([one.items_per_s for one in compared.variants]))
    figure.update_yaxes(title="points of accuracy" if probed else "overlap, %", zeroline=True, zerolinecolor=QUIET)
    figure.update_layout(hovermode="closest", legend={"orientation": "h", "y": 1.08})
    return styled(figure, height=520)


def _where(belongs: Callable[[Variant], bool], compared: Comparison) -> tuple[list[str], list[Variant]]:
    """Variants of a kind, and their numbers in the table."""
    chosen = [(str(number), one) for number, one in enumerate(compared.variants, 1) if belongs(one)]
    return [number for number, _ in chosen], [one for _, one in chosen]


def _speed_axis(speeds: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis with round numbers, closer together where it is short."""
    low, high = min(speeds) / 1.15, max(speeds) * 1.15
    digits = (1, 2, 5) if high > 4 * low else (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9)
    ticks = [digit * 10.0**power for power in range(-3, 8) for digit in digits]
    labels = [f"{tick:,g}" if tick < 100 else f"{tick:,.0f}" for tick in ticks]
    return {"type": "log", "range": [log10(low), log10(high)], "tickvals": ticks, "ticktext": labels}


def _height(variant: Variant) -> float:
    return 100 * (variant.overlap if variant.change is None else variant.change)


def _hover(variant: Variant) -> str:
    return "<br>".join(
        f"{what.lstrip('>')}: {value}" for what, value in zip(_columns(variant), _cells(variant), strict=True)
    )


def _table(compared: Comparison) -> Section:
    note = (
        "Cosine and overlap of neighbours are with the whole model in fp32; with fewer layers the vectors are another "
        "space, without a cosine. The certificate is with the fp32 reference of the same layers."
    )
    columns = (">#", *_columns(compared.variants[0]))
    rows = [(number, *_cells(one)) for number, one in enumerate(compared.variants, 1)]
    return Section("The numbers", paragraph(note, "note") + table_html(columns, rows))


def _columns(variant: Variant) -> tuple[str, ...]:
    accuracy = (">accuracy", ">change, 95 %") if variant.evaluation is not None else ()
    near, gain = (">mean cosine", ">lowest", ">10-NN"), (">items/s", ">weights, MB")
    return ("variant", "Pareto", "certificate", *near, *gain, *accuracy)


def _cells(variant: Variant) -> tuple[str, ...]:
    verdict = f"refused: {variant.refused}" if variant.refused else "passed"
    accuracy: tuple[str, ...] = ()
    if variant.evaluation is not None and variant.change_interval is not None:
        low, high = variant.change_interval
        change = "–" if low == high else f"{100 * low:+.1f} to {100 * high:+.1f}"  # the whole model itself
        accuracy = (f"{variant.evaluation.accuracy:.1%}", change)
    cosines = ("–" if value is None else f"{value:.4f}" for value in (variant.cosine_mean, variant.cosine_min))
    speed, memory = f"{variant.items_per_s:,.0f}", f"{variant.weight_bytes / 1e6:,.2f}"
    name, best = _name(variant).replace(" ", "\u00a0"), "★" if variant.optimal else ""  # the name on one line
    return (name, best, verdict, *cosines, f"{variant.overlap:.1%}", speed, memory, *accuracy)
