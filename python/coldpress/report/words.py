"""What numbers of a probe mean, in words: the same on the terminal and on the page."""

from __future__ import annotations

from coldpress.probes import Examination
from coldpress.probes.result import Conditions


def calibration_line(examined: Examination) -> str:
    """How far confidence and accuracy are apart."""
    after, before = 100 * examined.calibration_error, 100 * examined.calibration_error_before
    return f"confidence and accuracy differ by {after:.1f} points on average ({before:.1f} before its temperature)"


def gap_line(examined: Examination) -> str:
    """How large the gap between groups is, and whether chance explains it."""
    if examined.gap is None or examined.gap_by_chance is None or examined.gap_interval is None:
        return "one group: no gap to measure"
    low, high = examined.gap_interval
    verdict = "more than chance" if examined.gap > examined.gap_by_chance else "no more than chance"
    return (
        f"gap between best and worst {100 * examined.gap:.1f} points ({100 * low:.1f} to {100 * high:.1f}): {verdict}"
        f" makes (up to {100 * examined.gap_by_chance:.1f} in 95 of 100 random groupings)"
    )


def leaks_line(result: Conditions) -> str | None:
    """How many test items have a near duplicate in the training part; None where there are none."""
    if not result.leaks:
        return None
    count = f"{len(result.leaks):,} test item{'s' * (len(result.leaks) > 1)}"
    done = "left out of the test" if result.leaks_dropped else "leave them out with --drop-leaks"
    return f"{count} with one among the training items: {done}"
