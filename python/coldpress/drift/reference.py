"""`Reference`: what new rows are compared with: a sample of those that were fine, and the kernel fitted to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from coldpress.drift import mmd
from coldpress.drift.kernel import RandomFeatures
from coldpress.drift.sample import MIN_NEW, MIN_REFERENCE, SAMPLE, TUNED, Floats
from coldpress.errors import ColdpressError, FingerprintMismatch
from coldpress.types import Fingerprint

DRAWN = SAMPLE + TUNED
"""Rows that a reference is made of."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A sample of the rows that all later ones are compared with.

    Attributes
    ----------
    sample : (N, D) float32, independent draws.
    features : the kernel, fitted to other rows than these: only then is the level of the test exact.
    rows : of how many it was drawn.
    fingerprint : of their space; None where only vectors are known.
    """

    sample: Floats
    features: RandomFeatures
    rows: int
    fingerprint: Fingerprint | None = None

    @classmethod
    def of(cls, drawn: Floats, rows: int, fingerprint: Fingerprint | None, *, seed: int) -> Reference:
        """Of at most `DRAWN` rows (N, D) in random order, drawn from `rows` of them.

        Raises
        ------
        ColdpressError
            If they are fewer than `MIN_REFERENCE`.
        """
        if len(drawn) < MIN_REFERENCE:
            raise ColdpressError(f"the reference has {len(drawn)} rows, expected at least {MIN_REFERENCE}: add some")
        tuned = min(TUNED, len(drawn) // 5)
        return cls(drawn[tuned:], RandomFeatures.fit(drawn[:tuned], seed), rows, fingerprint)

    @property
    def dim(self) -> int:
        """D."""
        return self.features.dim

    @cached_property
    def mapped(self) -> Floats:
        """The features of the sample."""
        return self.features(self.sample)

    def compare(self, rows: Floats, *, level: float, seed: int) -> mmd.Verdict:
        """Test whether rows (n, D) are of the distribution of the reference.

        Raises
        ------
        ColdpressError
            If they are fewer than `MIN_NEW`, of another width, or the level is none.
        """
        if len(rows) < MIN_NEW:
            raise ColdpressError(f"got {len(rows)} new rows, expected at least {MIN_NEW}: collect more before a test")
        return mmd.compare(self.mapped, self.features(rows), level, seed)

    def check(self, fingerprint: Fingerprint) -> None:
        """Raise :class:`~coldpress.errors.FingerprintMismatch`, naming what differs, if `fingerprint` is another."""
        if self.fingerprint is not None:
            check_space(self.fingerprint, fingerprint)


def check_space(reference: Fingerprint, new: Fingerprint) -> None:
    """Refuse to compare vectors of different making: they differ whatever the data are."""
    if reference.digest != new.digest:
        raise FingerprintMismatch(
            "the reference and the new vectors come from different spaces (reference != new:"
            f" {'; '.join(reference.diff(new))}): embed both with the same model and settings,"
            " the new one with --reuse of the reference"
        )
