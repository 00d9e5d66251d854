"""Labels files: a key and a label in every row."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from coldpress.errors import ColdpressError

FILE_SUFFIXES = (".csv", ".jsonl", ".parquet")


def is_label_file(labels: str | Path) -> bool:
    """Whether labels come from a file with keys, by its ending, and not from a column."""
    return Path(labels).suffix.lower() in FILE_SUFFIXES


def read_pairs(path: Path) -> list[tuple[Any, Any]]:
    """(key, label) of every row; raises ColdpressError for a file that cannot be read."""
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    try:
        return readers[path.suffix.lower()](path)
    except KeyError as error:
        raise ColdpressError(
            f"{path} has no column {error}: a labels file has the columns 'key' and 'label'"
        ) from error
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        raise ColdpressError(f"labels file {path} cannot be read ({error}): check the path and its format") from error


def _read_csv(path: Path) -> list[tuple[Any, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        for column in ("key", "label"):
            if column not in (reader.fieldnames or ()):
                raise KeyError(column)
        return [(row["key"], row["label"]) for row in reader]


def _read_jsonl(path: Path) -> list[tuple[Any, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a line is not a JSON object")
    return [(row["key"], row["label"]) for row in rows]


def _read_parquet(path: Path) -> list[tuple[Any, Any]]:
    table = pq.read_table(path)
    return list(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True))
