"""What the features are worth: linear probes over stores, as real scikit-learn estimators."""

from __future__ import annotations

from coldpress.probes.evaluate import ClassScore, Evaluation
from coldpress.probes.head import Head
from coldpress.probes.labels import Labels, read_labels
from coldpress.probes.logistic import CandidateC
from coldpress.probes.probe import ProbeResult, fit_probe

__all__ = ["CandidateC", "ClassScore", "Evaluation", "Head", "Labels", "ProbeResult", "fit_probe", "read_labels"]
