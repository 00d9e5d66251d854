"""``coldpress demo``: the whole of coldpress in well under a minute, without a network and without data."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.status import Status
from rich.text import Text

from coldpress.cli import _terminal as terminal
from coldpress.cli._command import Command, Result
from coldpress.cli._format import clip, count, duration, facts, table
from coldpress.cli._progress import ProgressDisplay
from coldpress.cli._summary import certificate_line

if TYPE_CHECKING:
    from coldpress.cli._demo.pipeline import Demo
    from coldpress.engine import Progress


def demo(
    out: Annotated[Path, typer.Option(metavar="DIRECTORY", help="Where everything is written.")] = Path("demo"),
    limit: Annotated[int, typer.Option(metavar="N", min=100, help="Paragraphs to embed.")] = 4000,
    show: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
) -> Result:
    """Embed, search and classify the documentation of this Python installation.

    Needs no network and no data: only the packages of the extra demo. Writes a corpus, a store, an index, a head
    and report.html.
    """
    with ExitStack() as display:
        steps = _Steps(display)
        with steps.spinning("load the libraries"):
            from coldpress.cli._demo.pipeline import run_demo
        done = run_demo(out, limit, on_step=steps.begin, on_progress=steps.embedding)
    if show:
        webbrowser.open(done.report.resolve().as_uri())
    data = {
        "out": str(out),
        "report": str(done.report),
        "paragraphs": done.paragraphs,
        "modules": done.modules,
        "seconds": round(done.seconds, 3),
        "steps": done.steps,
        "embed": done.summary.to_json(),
        "answers": {question: [asdict(hit) for hit in hits] for question, hits in done.answers.items()},
        "probe": done.probe.to_json(),
    }
    return Result(data, lambda console: _render(console, done))


class _Steps:
    """A spinner for each step, and the progress bar while texts are embedded."""

    def __init__(self, display: ExitStack) -> None:
        self._display = display
        self._console = terminal.stderr()

    def spinning(self, name: str) -> ExitStack:
        """A spinner until the returned context ends."""
        stack = ExitStack()
        if self._console.is_terminal:
            stack.enter_context(Status(f"{name[0].upper()}{name[1:]} …", console=self._console))
        return stack

    def begin(self, name: str) -> None:
        """End what was shown for the step before, and show the next."""
        self._display.close()
        if name != "embed":
            self._display.enter_context(self.spinning(name))

    def embedding(self, total: int) -> Callable[[Progress], None]:
        """Show the progress bar; it knows `total` although the source does not."""
        return self._display.enter_context(ProgressDisplay(total))


def _render(console: Console, done: Demo) -> None:
    summary, evaluation = done.summary, done.probe.evaluation
    low, high = evaluation.interval
    console.print(
        Text.assemble(
            ("✓ ", "green"),
            (count(summary.rows, "paragraph"), "bold"),
            f" of documentation from {done.modules} modules embedded at ",
            (f"{summary.rows_per_s:,.0f}/s", "bold"),
        )
    )
    console.print(
        facts(
            {
                "certificate": None if summary.certificate is None else certificate_line(summary.certificate),
                "probe": f"tells {len(evaluation.per_class)} modules apart with {evaluation.accuracy:.1%} accuracy "
                f"({low:.1%} to {high:.1%}; guessing gives {evaluation.majority_baseline:.1%})",
            }
        )
    )
    answers = table("question", "best answer", ">score")
    for question, hits in done.answers.items():
        best = hits[0]
        found = Text.assemble((best.key.partition("#")[0], "cyan"), f"  {clip(best.text, 52)}")
        answers.add_row(Text(question), found, f"{best.score:.2f}")
    console.print()
    console.print(answers)
    console.print()
    console.print(
        Text.assemble("Report  ", (str(done.report), "bold"), (f"  ({duration(done.seconds)} in all)", "dim"))
    )
    console.print(
        f'[dim]Try[/]     coldpress search {done.out}/index --store {done.out}/store --text "draw a spiral"',
        soft_wrap=True,
    )


COMMAND = Command(
    demo,
    group="Start here",
    position=1,
    examples=("coldpress demo", "coldpress demo --open", "coldpress demo --limit 1000 --out /tmp/demo --json"),
)
