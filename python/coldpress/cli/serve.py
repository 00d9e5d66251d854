"""``coldpress serve``: search, embedding and prediction over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from coldpress.cli import _options as options
from coldpress.cli import _terminal as terminal
from coldpress.cli._command import Command, Result
from coldpress.cli._progress import busy

_WHAT, _WHO, _LIMITS, _DRIFT = "What to serve", "Who may come in", "Limits", "Drift"


def serve(
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="What embeds. [dim]Default: the model of the index or head.[/]",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    index: Annotated[
        Path | None, typer.Option(metavar="INDEX", help="Written by coldpress index.", rich_help_panel=_WHAT)
    ] = None,
    head: Annotated[
        Path | None, typer.Option(metavar="HEAD", help="Written by coldpress probe.", rich_help_panel=_WHAT)
    ] = None,
    media: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Show small pictures and texts of the items, from files in this directory only.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    drift: Annotated[
        str | None,
        typer.Option(
            metavar="STORE|DIR",
            help="Compare what is asked with a store of queries, or keep the first ones in a directory across restarts."
            " [dim]Default: the first since the start.[/]",
            rich_help_panel=_DRIFT,
        ),
    ] = None,
    drift_window: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=20,
            help="Queries compared at a time; the first four times N are the baseline.",
            rich_help_panel=_DRIFT,
        ),
    ] = 500,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Address to listen on.", rich_help_panel=_WHO)
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="0: a free one.", rich_help_panel=_WHO)
    ] = 8080,
    api_keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Answer only who has a key of this file.", rich_help_panel=_WHO),
    ] = None,
    new_key: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Make a key, add its hash to --api-keys, print the key.", rich_help_panel=_WHO
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What a proxy on this machine calls the server, if it asks for no keys.",
            rich_help_panel=_WHO,
        ),
    ] = None,
    deadline: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="For every request.", rich_help_panel=_LIMITS)
    ] = 10.0,
    max_body: Annotated[
        float, typer.Option(metavar="MB", min=0.01, help="Of one request.", rich_help_panel=_LIMITS)
    ] = 16.0,
    max_items: Annotated[
        int, typer.Option(metavar="N", min=1, help="Texts, images or vectors of one request.", rich_help_panel=_LIMITS)
    ] = 256,
    max_pixels: Annotated[
        float, typer.Option(metavar="MP", min=0.01, help="Megapixels of one image.", rich_help_panel=_LIMITS)
    ] = 40.0,
    max_batch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Tokens or images computed at a time. [dim]Default: by machine.[/]",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    precision: options.PrecisionOption = options.Precision.AUTO,
    arch: options.ArchOverride = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
) -> Result:
    """Serve an index, a head or just a model over HTTP.

    POST /v1/search, /v1/embed and /v1/predict take texts, images or vectors; OpenAI's clients find /v1/embeddings,
    those of text-embeddings-inference /embed, Prometheus /metrics, people / and /docs. POST /v1/reload opens index and
    head anew without a failed request; so does SIGHUP, and reads the keys again. SIGTERM answers what is under way.
    """
    if new_key is not None:
        return _make_key(new_key, api_keys)
    if model is None and index is None and head is None:
        raise typer.BadParameter("nothing to serve: give --model, --index or --head")
    if precision is not options.Precision.AUTO and (index is not None or head is not None):
        raise typer.BadParameter("--precision is that of the index or head: leave it out")
    from coldpress import serve as serving

    limits = serving.Limits(
        body_bytes=int(max_body * 1e6), items=max_items, pixels=int(max_pixels * 1e6), deadline_s=deadline
    )
    places = serving.Places(
        model,
        index,
        head,
        arch,
        device,
        threads,
        precision.value,
        batch_cost=max_batch,
        media=media,
        drift=drift,
        drift_window=drift_window,
        limits=limits,
    )
    if api_keys is not None:
        serving.read_keys(api_keys)  # fails before anything is loaded
    elif not serving.is_loopback(host):
        terminal.complain(f"warning: whoever reaches {host} is answered: give --api-keys FILE to ask for keys")
    listening = serving.open_socket(host, port)
    url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    with busy(f"Loading {model or index or head}"):
        service = serving.Service(places, serving.Metrics())
    serving.run(
        service,
        listening,
        api_keys=api_keys,
        allow_hosts=allow_host or (),
        ready=lambda: terminal.complain(f"serving {service.name} at {url}; Ctrl-C ends it"),
    )
    return Result({"url": url, "stopped": True}, lambda console: console.print("[green]✓[/] drained and stopped"))


def _make_key(name: str, api_keys: Path | None) -> Result:
    if api_keys is None:
        raise typer.BadParameter("--new-key needs --api-keys FILE, where the hash of the key is kept")
    from coldpress.serve import new_key

    key = new_key(api_keys, name)
    data: dict[str, Any] = {"name": name, "key": key, "file": str(api_keys)}

    def render(console: Console) -> None:
        console.print(
            Text.assemble((key, "bold"), f"\nkey of {name}; it is not kept anywhere: {api_keys} has its hash")
        )

    return Result(data, render)


COMMAND = Command(
    serve,
    group="Search",
    position=3,
    examples=(
        "coldpress serve --index photos.index",
        "coldpress serve --index passages.index --head topics.head --port 9000",
        "coldpress serve --new-key alice --api-keys keys.txt",
        "coldpress serve --index photos.index --host 0.0.0.0 --api-keys keys.txt",
    ),
)
