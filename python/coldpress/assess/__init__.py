"""Is transfer positive: stored features beside the raw input and an untrained network, on the same items."""

from __future__ import annotations

from coldpress.assess.assess import assess
from coldpress.assess.judge import Scores, Share
from coldpress.assess.paired import Difference
from coldpress.assess.result import Assessment, Candidate, Distance

__all__ = ["Assessment", "Candidate", "Difference", "Distance", "Scores", "Share", "assess"]
