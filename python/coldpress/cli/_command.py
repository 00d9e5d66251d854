"""What a command is, how commands are found, and everything they have in common: ``--json``, ``--debug``, exit codes.

A command is one module of this package with a module-level ``COMMAND = Command(...)``; nothing else needs an edit.
Its function does the work and returns a `Result`; whether that is shown to a person or to a program is decided here.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import math
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_type_hints

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

from coldpress._version import __version__
from coldpress.cli import _terminal as terminal

Group = Literal["Start here", "Extract", "Search", "Learn"]
_GROUPS: tuple[Group, ...] = ("Start here", "Extract", "Search", "Learn")


@dataclass(frozen=True, slots=True)
class Result:
    """What a command has to say: `data` for ``--json``, `render` for people.

    With `failure`, a one-line reason, the command exits 1 after showing the result; with `status`, it exits so.
    """

    data: Mapping[str, Any]
    render: Callable[[Console], None]
    failure: str | None = None
    status: int = 0


@dataclass(frozen=True, slots=True)
class Command:
    """A function that does the work, where the help lists it, and lines that show how it is used."""

    run: Callable[..., Result]
    group: Group
    position: int
    examples: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the user types."""
        return self.run.__name__


Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object as the last line.", rich_help_panel="Reporting")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel="Reporting")]


def commands() -> list[Command]:
    """Every command of this package, in the order in which the help lists them."""
    package = importlib.import_module("coldpress.cli")
    names = [m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")]
    found = [vars(importlib.import_module(f"coldpress.cli.{name}"))["COMMAND"] for name in names]
    return sorted(found, key=lambda command: (_GROUPS.index(command.group), command.position))


def build_app() -> typer.Typer:
    """The application with every command."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    start = ("coldpress demo", "coldpress embed photos/ --model facebook/dinov2-small --out photos.store")
    app.callback(cls=_Group, epilog=_epilog((*start, "coldpress COMMAND --help")))(_root)
    for command in commands():
        shown: dict[str, Any] = {"help": _help(command), "epilog": _epilog(command.examples)}
        app.command(command.name, cls=_Leaf, rich_help_panel=command.group, **shown)(_guarded(command))
    return app


class _Leaf(TyperCommand):
    def get_help_option(self, ctx: Any) -> Any:
        return _without_type(super().get_help_option(ctx))


class _Group(TyperGroup):
    def get_help_option(self, ctx: Any) -> Any:
        return _without_type(super().get_help_option(ctx))


def _without_type(option: Any) -> Any:
    """Let the help show ``--help``, not ``--help <bool>``."""
    if option is not None:
        option.metavar = ""
    return option


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"coldpress {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", metavar="", help="Show the traceback of an error.")] = False,
) -> None:
    """Frozen pre-trained backbones as fixed feature extractors, feeding FAISS and scikit-learn."""
    context.obj = debug


def _help(command: Command) -> str:
    """The docstring, its paragraphs on one line each: the terminal decides where to break them."""
    paragraphs = inspect.cleandoc(command.run.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _epilog(examples: tuple[str, ...]) -> str:
    lines = [f"[dim]$[/] {line.replace('[', chr(92) + '[')}" for line in examples]
    return "\n".join(["[bold]Examples[/]", *lines])


def _guarded(command: Command) -> Callable[..., None]:
    """The function of a command with ``--json`` and ``--debug``, its result shown and its errors explained."""

    def guarded(context: typer.Context, *, json: bool, debug: bool, **options: Any) -> None:
        debug = debug or bool(context.obj)
        terminal.set_up_logging(verbose=debug)
        try:
            result = command.run(**options)
            _show(result, as_json=json)
        except (typer.BadParameter, typer.Exit):
            raise
        except (KeyboardInterrupt, Exception) as error:
            raise typer.Exit(terminal.explain(error, debug=debug)) from None
        if result.failure is not None:
            terminal.complain(f"error: {result.failure}")
        if result.failure is not None or result.status:
            raise typer.Exit(result.status or 1)

    functools.update_wrapper(guarded, command.run)
    hints = get_type_hints(command.run, include_extras=True)
    own = [p.replace(annotation=hints[p.name]) for p in inspect.signature(command.run).parameters.values()]
    _hide_type_of_flags([*hints.values(), Json, Debug])
    kind = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter("json", kind, default=False, annotation=Json),
        inspect.Parameter("debug", kind, default=False, annotation=Debug),
    ]
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *(p.replace(kind=kind) for p in own), *shared]
    guarded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    guarded.__annotations__ = {p.name: p.annotation for p in parameters}
    del guarded.__wrapped__  # type: ignore[attr-defined]
    return guarded


def _hide_type_of_flags(annotations: Iterable[Any]) -> None:
    """Let the help show ``--json``, not ``--json <bool>``: a flag takes no value."""
    for annotation in annotations:
        kind, *details = get_args(annotation) or (None,)
        for detail in details:
            if kind is bool and hasattr(detail, "metavar") and detail.metavar is None:
                detail.metavar = ""


def _in_json(value: Any) -> Any:
    """The same with null for NaN and infinities, of which metadata may hold some and JSON knows none."""
    if isinstance(value, Mapping):
        return {name: _in_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_in_json(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _show(result: Result, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_in_json(result.data)))
    else:
        result.render(terminal.stdout())
