"""What a store, an index or a head is, for ``coldpress info``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from coldpress.cli._command import Result
from coldpress.cli._format import clip, count, directory_size, facts, listing, size, table
from coldpress.cli._outcomes import first_failures, reasons, render_failures
from coldpress.cli._summary import certificate_line
from coldpress.cli.index import index_facts

if TYPE_CHECKING:
    from coldpress import EmbeddingStore, VectorIndex
    from coldpress.probes import Head


def describe_store(path: str) -> Result:
    """A store: size, space, certificate, outcomes."""
    from coldpress import EmbeddingStore
    from coldpress.types import mode_label

    store = EmbeddingStore(path)
    dims = dict(store.dims)
    failed, columns = reasons(store), list(store.columns)
    data = {
        "kind": "store",
        "path": str(path),
        "model": store.model,
        "description": dict(store.description),
        "source": store.source,
        "rows": len(store),
        "inputs": store.inputs,
        "failed": store.failed,
        "duplicates": store.duplicates,
        "complete": store.complete,
        "dims": dims,
        "dtype": store.dtype,
        "bytes": store.nbytes,
        "columns": columns,
        "certificate": None if store.certificate is None else store.certificate.to_json(),
        "failure_reasons": failed,
        "fingerprint": {"digest": store.fingerprint.digest, "fields": dict(store.fingerprint.fields)},
    }

    fields = store.fingerprint.fields

    def render(console: Console) -> None:
        title(console, "store", path, f"{count(len(store), 'vector')}")
        values: dict[str, object] = {
            "model": _made_by(store),
            "source": store.source,
            "state": "complete" if store.complete else Text("incomplete: run embed again to continue", "yellow"),
            "vectors": f"{listing(f'{name} {dim}' for name, dim in dims.items())}, {store.dtype}",
            "on disk": size(store.nbytes),
            "inputs": f"{store.inputs:,}: {len(store) - store.duplicates:,} ok, "
            f"{count(store.duplicates, 'duplicate')}, {store.failed:,} failed",
            "columns": listing(columns, most=20),
            "precision": mode_label(fields["precision"], fields.get("layer_precision", {})),
            "certificate": None if store.certificate is None else certificate_line(store.certificate),
        }
        console.print(facts(values))
        if failed:
            shown = table(">items", "failed because")
            for reason, number in failed.items():
                shown.add_row(f"{number:,}", Text(clip(reason, 110), "red"))
            console.print()
            console.print(shown)
            render_failures(console, first_failures(store), store.failed, path)
        _render_fingerprint(console, store.fingerprint.digest, store.fingerprint.fields)

    return Result(data, render)


def describe_index(path: Path) -> Result:
    """An index: kind, metric, recall, space."""
    from coldpress import VectorIndex

    index = VectorIndex.open(path, memory_map=True)
    data = {
        "kind": "index",
        "path": str(path),
        "model": index.model,
        "description": dict(index.description),
        "output": index.output,
        "rows": len(index),
        "dim": index.dim,
        "method": index.kind,
        "metric": index.metric,
        "bytes": directory_size(path),
        "settings": dict(index.settings),
        "certificate": index.certificate.to_json(),
        "columns": list(index.columns),
        "fingerprint": {"digest": index.fingerprint.digest, "fields": dict(index.fingerprint.fields)},
    }

    def render(console: Console) -> None:
        title(console, "index", path, f"{count(len(index), 'vector')} of width {index.dim}")
        settings = {name: value for name, value in index.settings.items() if name != "recall_at_10"}
        values = {
            "model": _made_by(index),
            "output": index.output,
            "takes": _queries(index),
            "columns": listing(index.columns, most=20),
            **index_facts(index.kind, index.metric, index.certificate),
            "settings": listing((f"{name} {value}" for name, value in settings.items()), most=20) or None,
            "on disk": size(directory_size(path)),
        }
        console.print(facts(values))
        _render_fingerprint(console, index.fingerprint.digest, index.fingerprint.fields)

    return Result(data, render)


def describe_head(path: Path) -> Result:
    """A head: classes, how good it was, space."""
    from coldpress.probes import Head

    head = Head.open(path)
    data = {
        "kind": "head",
        "path": str(path),
        "model": head.model,
        "description": dict(head.description),
        "dim": head.dim,
        "classes": list(head.classes),
        "task": head.task,
        "head": head.kind,
        "setting": head.setting,
        "output": head.output,
        "report": dict(head.report),
        "fingerprint": {"digest": head.fingerprint.digest, "fields": dict(head.fingerprint.fields)},
    }

    def render(console: Console) -> None:
        what = {"regress": "numbers", "multilabel": count(len(head.classes), "label")}
        title(console, "head", path, what.get(head.task, count(len(head.classes), "class", "classes")))
        name, quality = _quality(head)
        values = {
            "model": _made_by(head),
            "width": head.dim,
            "classes": listing(head.classes, most=20) or None,
            name: quality,
            "head": head.title,
            "output": head.output,
        }
        console.print(facts(values))
        _render_fingerprint(console, head.fingerprint.digest, head.fingerprint.fields)

    return Result(data, render)


def _quality(head: Head) -> tuple[str, str | None]:
    """What its report says first of the test part."""
    measures = {
        "classify": ("accuracy", "accuracy", "interval"),
        "regress": ("R²", "r2", "r2_interval"),
        "multilabel": ("mean average precision", "mean_average_precision", "map_interval"),
    }
    name, field, interval = measures[head.task]
    evaluation = head.report.get("evaluation")
    if not evaluation:
        return name, None
    value, (low, high) = evaluation[field], evaluation[interval]
    shown = [f"{one:.3f}" if head.task == "regress" else f"{one:.1%}" for one in (value, low, high)]
    return name, f"{shown[0]} ({shown[1]} to {shown[2]}) on {count(evaluation['items'], 'item')}"


def _made_by(thing: EmbeddingStore | VectorIndex | Head) -> str:
    """The model, and what of its description is not said elsewhere."""
    stated = thing.description
    more = [str(stated["modality"])] if stated.get("modality") else []
    more += [f"{name} {stated[name]}" for name in ("arch", "prompt") if stated.get(name)]
    return f"{thing.model} ({', '.join(more)})" if more else thing.model


def _queries(index: VectorIndex) -> str | None:
    """What may be searched for: with two towers in one space either."""
    own = index.description.get("modality")
    other = "image" if own == "text" else "text"
    return f"{own}s, and {other}s too" if "space" in index.fingerprint.fields else own and f"{own}s"


def title(console: Console, kind: str, path: object, what: str) -> None:
    """The first line of what is said about a thing."""
    console.print(Text.assemble((kind, "bold cyan"), " ", (str(path), "bold"), (f"  {what}", "dim")), soft_wrap=True)


def _render_fingerprint(console: Console, digest: str, fields: Mapping[str, Any]) -> None:
    """The fields on a few lines: what differs where two spaces do."""
    console.print()
    shown = {name: clip(value if isinstance(value, str) else _plain(value), 120) for name, value in fields.items()}
    console.print(facts({"fingerprint": Text(digest, "bold"), **{f"  {name}": value for name, value in shown.items()}}))


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(entry)}" for name, entry in value.items() if entry not in ("", None, [], {}))
    if isinstance(value, list | tuple):
        return " x ".join(_plain(entry) for entry in value)
    return str(value)
