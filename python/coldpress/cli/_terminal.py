"""Standard output, standard error, and how errors are told: one line, no traceback unless asked for."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from typing import TextIO

import typer
from rich.console import Console

from coldpress.errors import ColdpressError

PIPE_WIDTH = 140
"""Columns where there is no terminal to ask: tables keep their rows on one line."""


def stdout() -> Console:
    """For results."""
    return _console(stderr=False)


def stderr() -> Console:
    """For progress."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


def complain(message: str) -> None:
    """One line on standard error."""
    typer.echo(f"coldpress: {' '.join(message.split())}", err=True)


def explain(error: BaseException, *, debug: bool) -> int:
    """Say on one line what went wrong, and return the exit status that belongs to it."""
    if debug and not isinstance(error, BrokenPipeError | KeyboardInterrupt):
        traceback.print_exception(error)
    match error:
        case KeyboardInterrupt():
            complain(f"interrupted{': ' if error.args else ''}{error}")
            return 130
        case BrokenPipeError():  # the reader of a pipe has seen enough: nobody is left to be told
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        case ColdpressError():
            complain(f"error: {error}")
        case OSError():
            complain(f"error: {error.filename + ': ' if error.filename else ''}{error.strerror or error}")
        case _:
            complain(f"error: {type(error).__name__}: {error} (this should not happen; --debug shows where)")
    return 1


class _OneLine(logging.Handler):
    """Log records as complaints; asks for standard error each time, so that a live progress bar stays below."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        complain(level + record.getMessage())


def set_up_logging(*, verbose: bool) -> None:
    """Bring warnings and log records to standard error, one line each; with `verbose` informative ones too."""
    logger = logging.getLogger("coldpress")
    logger.handlers = [_OneLine()]
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    warnings.showwarning = _show_warning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    # Of other packages only what is meant for users: not their deprecations.
    if issubclass(category, UserWarning | RuntimeWarning):
        complain(f"warning: {message}")
