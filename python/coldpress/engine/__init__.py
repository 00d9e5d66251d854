"""From a source to a store: plan, run, certify."""

from coldpress.engine.arithmetic import Arithmetic
from coldpress.engine.certificate import Trial, certify, require
from coldpress.engine.compute import Computer, calibrated, open_device
from coldpress.engine.delivery import Crew, Delivery, Worker
from coldpress.engine.fitting import fit_projection, stored_projection
from coldpress.engine.options import RunOptions, default_workers, run_options
from coldpress.engine.plan import check_merged, parse_outputs
from coldpress.engine.precision import Choice, candidates, choose_layers, choose_precision
from coldpress.engine.reduction import Reduction, check_reduction, pack
from coldpress.engine.runner import Run
from coldpress.engine.sample import Sample, prepare_items, spread_sample, take_sample
from coldpress.engine.settle import Attempt, Decision, attempts, first_passing, stored_choice
from coldpress.engine.space import fingerprint
from coldpress.engine.summary import Progress, Summary
from coldpress.engine.together import run_together

__all__ = [
    "Arithmetic",
    "Attempt",
    "Choice",
    "Computer",
    "Crew",
    "Decision",
    "Delivery",
    "Progress",
    "Reduction",
    "Run",
    "RunOptions",
    "Sample",
    "Summary",
    "Trial",
    "Worker",
    "attempts",
    "calibrated",
    "candidates",
    "certify",
    "check_merged",
    "check_reduction",
    "choose_layers",
    "choose_precision",
    "default_workers",
    "fingerprint",
    "first_passing",
    "fit_projection",
    "open_device",
    "pack",
    "parse_outputs",
    "prepare_items",
    "require",
    "run_options",
    "run_together",
    "spread_sample",
    "stored_choice",
    "stored_projection",
    "take_sample",
]
