"""What a store, an index, a head or a model is, for ``coldpress info``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from coldpress.cli._command import Result
from coldpress.cli._format import clip, count, directory_size, facts, listing, size, table
from coldpress.cli._outcomes import first_failures, reasons, render_failures
from coldpress.cli._progress import loading
from coldpress.cli._summary import certificate_line
from coldpress.cli.index import index_facts


def describe_store(path: str) -> Result:
    """A store: size, space, certificate, outcomes."""
    from coldpress import EmbeddingStore
    from coldpress.types import mode_label

    store = EmbeddingStore(path)
    dims = dict(store.dims)
    failed, columns = reasons(store), [name for name, _ in store.manifest.schema or ()]
    data = {
        "kind": "store",
        "path": str(path),
        "model": store.model,
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
        _title(console, "store", path, f"{count(len(store), 'vector')}")
        values: dict[str, object] = {
            "model": store.model,
            "source": store.source,
            "state": "complete" if store.complete else Text("incomplete: run embed again to continue", "yellow"),
            "vectors": f"{listing(f'{name} {dim}' for name, dim in dims.items())}, {store.dtype}",
            "on disk": size(store.nbytes),
            "inputs": f"{store.inputs:,}: {len(store) - store.duplicates:,} ok, {store.duplicates:,} duplicates, "
            f"{store.failed:,} failed",
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

    index = VectorIndex.open(path)
    data = {
        "kind": "index",
        "path": str(path),
        "model": index.model,
        "rows": len(index),
        "dim": index.dim,
        "method": index.kind,
        "metric": index.metric,
        "bytes": directory_size(path),
        "settings": dict(index.settings),
        "fingerprint": {"digest": index.fingerprint.digest, "fields": dict(index.fingerprint.fields)},
    }

    def render(console: Console) -> None:
        _title(console, "index", path, f"{count(len(index), 'vector')} of width {index.dim}")
        settings = {name: value for name, value in index.settings.items() if name != "recall_at_10"}
        values = {
            "model": index.model,
            **index_facts(index.kind, index.metric, index.settings["recall_at_10"]),
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
        "dim": head.dim,
        "classes": list(head.classes),
        "C": head.C,
        "report": dict(head.report),
        "fingerprint": {"digest": head.fingerprint.digest, "fields": dict(head.fingerprint.fields)},
    }

    def render(console: Console) -> None:
        _title(console, "head", path, count(len(head.classes), "class", "classes"))
        evaluation = head.report.get("evaluation")
        accuracy = None
        if evaluation:
            low, high = evaluation["interval"]
            accuracy = f"{evaluation['accuracy']:.1%} ({low:.1%} to {high:.1%}) on {count(evaluation['items'], 'item')}"
        values = {
            "model": head.model,
            "width": head.dim,
            "classes": listing(head.classes, most=20),
            "accuracy": accuracy,
            "C": f"{head.C:g}",
        }
        console.print(facts(values))
        _render_fingerprint(console, head.fingerprint.digest, head.fingerprint.fields)

    return Result(data, render)


def describe_model(name: str) -> Result:
    """A model: architecture, size, preprocessing, prompts, weights."""
    with loading(name):
        from coldpress import models

        model = models.load(name)
    backbone = model.backbone
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    data = {
        "kind": "model",
        "model": name,
        "family": model.family,
        "modality": backbone.modality,
        "parameters": parameters,
        "dim": backbone.width,
        "depth": backbone.depth,
        "pooling": backbone.pooling,
        "normalize": backbone.normalize,
        "preprocessing": asdict(model.spec),
        "prompts": dict(model.prompts or {}),
        "weights": model.weights,
        "config": dict(model.config),
        "directory": None if model.directory is None else str(model.directory),
    }

    def render(console: Console) -> None:
        _title(console, "model", name, f"{parameters / 1e6:.1f} M parameters")
        end = ", scaled to unit length" if backbone.normalize else ""
        values = {
            "family": f"{model.family} ({'native' if model.family != 'transformers' else 'runs through transformers'})",
            "takes": f"{backbone.modality}s",
            "gives": f"vectors of width {backbone.width}, {backbone.pooling} pooling{end}",
            "blocks": f"{backbone.depth} (--output layer:1 … layer:{backbone.depth})" if backbone.depth else None,
            "preprocessing": listing((f"{k} {v}" for k, v in asdict(model.spec).items() if v != ""), most=20),
            "prompts": listing(f"{k} ({v!r})" for k, v in (model.prompts or {}).items()) or None,
            "weights": f"sha256 {model.weights}",
            "directory": model.directory,
        }
        console.print(facts(values))

    return Result(data, render)


def _title(console: Console, kind: str, path: object, what: str) -> None:
    console.print(Text.assemble((kind, "bold cyan"), " ", (str(path), "bold"), (f"  {what}", "dim")), soft_wrap=True)


def _render_fingerprint(console: Console, digest: str, fields: Mapping[str, Any]) -> None:
    """The fields on a few lines: what differs where two spaces do."""
    console.print()
    shown = {name: clip(value if isinstance(value, str) else _plain(value), 120) for name, value in fields.items()}
    console.print(facts({"fingerprint": Text(digest, "bold"), **{f"  {name}": value for name, value in shown.items()}}))


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(entry)}" for name, entry in value.items() if entry not in ("", None))
    if isinstance(value, list | tuple):
        return " x ".join(_plain(entry) for entry in value)
    return str(value)
