"""From a source to a store: plan, run, certify."""

from coldpress.engine.certificate import Trial, certify, require
from coldpress.engine.compute import Computer, open_device
from coldpress.engine.plan import parse_outputs
from coldpress.engine.precision import Choice, candidates, choose_layers, choose_precision
from coldpress.engine.runner import RunOptions, prepare_items, run
from coldpress.engine.sample import Sample, spread_sample, take_sample
from coldpress.engine.settle import Decision, attempts, first_passing, stored_choice
from coldpress.engine.summary import Progress, Summary

__all__ = [
    "Choice",
    "Computer",
    "Decision",
    "Progress",
    "RunOptions",
    "Sample",
    "Summary",
    "Trial",
    "attempts",
    "candidates",
    "certify",
    "choose_layers",
    "choose_precision",
    "first_passing",
    "open_device",
    "parse_outputs",
    "prepare_items",
    "require",
    "run",
    "spread_sample",
    "stored_choice",
    "take_sample",
]
