"""From a source to a store: plan, run, certify."""

from coldpress.engine.certificate import Decision, Trial, certify, first_passing
from coldpress.engine.compute import Computer
from coldpress.engine.plan import parse_outputs
from coldpress.engine.precision import candidates, choose_precision
from coldpress.engine.runner import RunOptions, run
from coldpress.engine.summary import Progress, Summary

__all__ = [
    "Computer",
    "Decision",
    "Progress",
    "RunOptions",
    "Summary",
    "Trial",
    "candidates",
    "certify",
    "choose_precision",
    "first_passing",
    "parse_outputs",
    "run",
]
