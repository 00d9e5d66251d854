"""What the features are worth: heads over stores, as real scikit-learn estimators."""

from __future__ import annotations

from coldpress.probes.candidates import Candidate
from coldpress.probes.compare import compare_variants
from coldpress.probes.curve import CurvePoint
from coldpress.probes.draw import Drawn, draw_labelled
from coldpress.probes.evaluate import ClassScore, Evaluation
from coldpress.probes.evaluate_numbers import NumberEvaluation
from coldpress.probes.evaluate_sets import LabelScore, SetEvaluation
from coldpress.probes.examine import Examination
from coldpress.probes.export import FineTunable, batch_of
from coldpress.probes.head import Head
from coldpress.probes.label_files import is_label_file
from coldpress.probes.labels import Labels, read_labels, task_of
from coldpress.probes.multilabel import MultilabelResult, fit_multilabel
from coldpress.probes.probe import fit_probe
from coldpress.probes.regression import RegressionResult, fit_regression
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
    "FineTunable",
    "Head",
    "LabelScore",
    "Labels",
    "MultilabelResult",
    "NumberEvaluation",
    "ProbeResult",
    "Recipe",
    "RegressionResult",
    "SetEvaluation",
    "Variant",
    "batch_of",
    "compare_variants",
    "draw_labelled",
    "fit_multilabel",
    "fit_probe",
    "fit_regression",
    "is_label_file",
    "read_labels",
    "task_of",
]
