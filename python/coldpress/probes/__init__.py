"""What the features are worth: linear probes over stores, as real scikit-learn estimators."""

from __future__ import annotations

from coldpress.probes.candidates import Candidate
from coldpress.probes.compare import compare_variants
from coldpress.probes.curve import CurvePoint
from coldpress.probes.draw import Drawn, draw_labelled
from coldpress.probes.evaluate import ClassScore, Evaluation
from coldpress.probes.examine import Examination
from coldpress.probes.head import Head
from coldpress.probes.labels import Labels, is_label_file, read_labels
from coldpress.probes.probe import fit_probe
from coldpress.probes.result import ProbeResult, Recipe
from coldpress.probes.variants import Comparison, Cut, Variant

__all__ = [
    "Candidate",
    "ClassScore",
    "Comparison",
    "CurvePoint",
    "Cut",
    "Drawn",
    "Evaluation",
    "Examination",
    "Head",
    "Labels",
    "ProbeResult",
    "Recipe",
    "Variant",
    "compare_variants",
    "draw_labelled",
    "fit_probe",
    "is_label_file",
    "read_labels",
]
