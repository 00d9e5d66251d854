"""From a source to a store: plan, run, certify."""

from coldpress.engine.certificate import Decision, Trial, certify, first_passing, require, try_mode
from coldpress.engine.compute import Computer
from coldpress.engine.plan import parse_outputs
from coldpress.engine.precision import Choice, candidates, choose_precision
from coldpress.engine.runner import RunOptions, prepare_items, run, stored_precision
from coldpress.engine.sample import Sample, take_sample
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
    "candidates",
    "certify",
    "choose_precision",
    "first_passing",
    "parse_outputs",
    "prepare_items",
    "require",
    "run",
    "stored_precision",
    "take_sample",
    "try_mode",
]
