"""`detect_drift`: whether a new store is still what a reference was, by how much it is not, and what drives it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coldpress.drift.driving import Driving, Witness, find_driving
from coldpress.drift.effects import Effects, effects_of
from coldpress.drift.mmd import Verdict, permutations_for
from coldpress.drift.reference import DRAWN, Reference, check_space
from coldpress.drift.sample import MIN_NEW, MIN_REFERENCE, SAMPLE, draw, read_pass
from coldpress.drift.windows import Window, by_column, by_count, compare_windows
from coldpress.errors import ColdpressError
from coldpress.probes.examine import plain

if TYPE_CHECKING:
    from coldpress.store import EmbeddingStore

_SIZES = ((0.05, "a little"), (0.2, "moderately"), (0.5, "much"), (0.9, "very much"))
"""By the share of new items that would have to be others."""

LEVEL = 0.01
"""One false alarm in a hundred comparisons of data that have not changed."""


@dataclass(frozen=True, eq=False, slots=True)
class Drift:
    """What has become of the data.

    Attributes
    ----------
    verdict : Verdict
        Of the one test that decides; the rate of false alarms is exactly `verdict.level`.
    effects : Effects
        How large the difference is.
    shift : ndarray, shape (D,)
        By how many standard deviations of the reference the mean of each dimension has moved.
    driving : Driving
        What the difference is made of.
    windows : tuple of Window
        The same test for parts of the new store, where they were asked for; each has that rate of false alarms.
    reference_items, new_items : int
    tested : tuple of int
        How many of them the test has looked at.
    seed : int
    seconds : float
    """

    verdict: Verdict
    effects: Effects
    shift: npt.NDArray[np.float64]
    driving: Driving
    windows: tuple[Window, ...]
    reference_items: int
    new_items: int
    tested: tuple[int, int]
    seed: int
    seconds: float

    @property
    def sentence(self) -> str:
        """The verdict in plain words."""
        if not self.verdict.alarm:
            return f"as far as {self.tested[1]:,} of the new items can tell, they are like the reference"
        share = self.effects.separation.changed
        size = next((word for limit, word in _SIZES if share < limit), "completely")
        return f"the new items differ {size} from the reference, by more than chance"

    def to_json(self) -> dict[str, Any]:
        """Everything but `shift` and the scores of single items, as plain JSON values."""
        shown = {name: getattr(self.driving, name) for name in ("unlike", "items", "missing", "values")}
        return {
            "drift": self.verdict.alarm,
            "sentence": self.sentence,
            **asdict(self.verdict),
            "permutations": permutations_for(self.verdict.level),
            "reference_items": self.reference_items,
            "new_items": self.new_items,
            "tested": list(self.tested),
            "effects": plain(self.effects),
            "driving": plain({name: [plain(one) for one in v] if name != "unlike" else v for name, v in shown.items()}),
            "windows": [
                {"name": one.name, "items": one.items, "drift": one.verdict.alarm, **asdict(one.verdict)}
                for one in self.windows
            ],
            "seed": self.seed,
            "seconds": self.seconds,
        }


def detect_drift(
    reference: EmbeddingStore,
    new: EmbeddingStore,
    *,
    output: str | None = None,
    level: float = LEVEL,
    window: int | None = None,
    by: str | None = None,
    items: int = 10,
    seed: int = 0,
) -> Drift:
    """Compare the vectors of two stores.

    One test decides: the maximum mean discrepancy of up to 4,096 rows of each store, drawn at random, against its
    distribution under random division of the pooled rows. If all rows are independent draws of one distribution, it
    gives a false alarm in exactly a share `level` of cases, for any number of rows and dimensions. Rows that come in
    groups (the frames of a video, the paragraphs of a document) are not independent, and give more; rows that are in
    both stores give fewer. Everything else is a measure of size, without a level; means and covariances are of all
    rows, read once in bounded memory.

    Parameters
    ----------
    reference, new : EmbeddingStore
        Of the same fingerprint; at least 50 and 10 rows.
    output : str, optional
        Which output of stores that hold several; None: the first.
    level : float
        The rate of false alarms.
    window : int, optional
        Test the new rows also in parts of so many, in the order of the store.
    by : str, optional
        Test them also by the value of this metadata column, such as the day; not with `window`.
    items : int
        How many driving items are named.
    seed : int
        For the draws and the random divisions.

    Raises
    ------
    FingerprintMismatch
        The stores hold vectors of different spaces.
    ColdpressError
        Too few rows, a row that is not finite, no such output or column, windows too small or too many.

    Examples
    --------
    >>> drift = detect_drift(EmbeddingStore("june"), EmbeddingStore("july"))     # doctest: +SKIP
    >>> drift.verdict.alarm, drift.verdict.p_value                               # doctest: +SKIP
    (True, 0.001)
    """
    started = time.perf_counter()
    if window is not None and by is not None:
        raise ColdpressError("window and by were both given, expected one way to divide the new rows")
    _check(reference, new)
    rows, new_rows = draw(len(reference), DRAWN, seed), draw(len(new), SAMPLE, seed + 1)
    before, after = read_pass(reference, output, rows), read_pass(new, output, new_rows)
    known = Reference.of(before.drawn, len(reference), reference.fingerprint, seed=seed)
    verdict = known.compare(after.drawn, level=level, seed=seed)
    parts = by_column(new, by, seed) if by is not None else None if window is None else by_count(new, window)
    found, shift = effects_of((known.sample, before.moments), (after.drawn, after.moments), level=level, seed=seed)
    sampled = rows[len(rows) - len(known.sample) :]
    return Drift(
        verdict=verdict,
        effects=found,
        shift=shift,
        driving=find_driving(Witness(known, after.drawn), (reference, sampled), new, output, most=items, level=level),
        windows=() if parts is None else compare_windows(known, new, output, parts, level=level, seed=seed),
        reference_items=len(reference),
        new_items=len(new),
        tested=(len(known.sample), len(after.drawn)),
        seed=seed,
        seconds=time.perf_counter() - started,
    )


def _check(reference: EmbeddingStore, new: EmbeddingStore) -> None:
    """What would otherwise be found out after reading all rows."""
    for store, what, least in ((reference, "reference", MIN_REFERENCE), (new, "new data", MIN_NEW)):
        if len(store) < least:
            raise ColdpressError(f"{store.path} has {len(store)} rows, expected at least {least} as {what}: add some")
    check_space(reference.fingerprint, new.fingerprint)
