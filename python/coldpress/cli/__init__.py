"""The command line. A command is one file with a ``COMMAND``, found by the registry in `_command`."""

from __future__ import annotations

from coldpress.cli._command import build_app


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 on success, 1 on failure, 2 on bad usage, 130 when interrupted.

    Parameters
    ----------
    arguments : list of str, optional
        Without the program's name; None takes those of the process.
    """
    build_app()(arguments, prog_name="coldpress")
