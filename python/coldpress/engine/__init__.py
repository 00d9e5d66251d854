"""From a source to a store: plan, run, certify."""

from coldpress.engine.certificate import certify
from coldpress.engine.compute import Computer
from coldpress.engine.plan import parse_outputs
from coldpress.engine.precision import choose_precision
from coldpress.engine.runner import RunOptions, run
from coldpress.engine.summary import Progress, Summary

__all__ = [
    "Computer",
    "Progress",
    "RunOptions",
    "Summary",
    "certify",
    "choose_precision",
    "parse_outputs",
    "run",
]
