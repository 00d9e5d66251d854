"""Do frozen features need fewer labels and less time than training from scratch, and when do they not?

    python benchmarks/transfer_study.py [--task NAME ...] [--data ../shared/data] [--page study.html]

Five questions about real texts and images, learned from 1, 2, 4, ... and all labels a class: by logistic regression on
frozen vectors, by the same on raw features (TF-IDF, pixels), and by a small network trained from scratch. Labels are
drawn several times, the same for all three; seconds are of the processor, from the labelled items to a classifier,
embedding and loading of the model included. Tasks that are not asked for keep the rows they have in the result.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from harness import arguments, write
from transfer_methods import Method, methods
from transfer_page import write_study
from transfer_tasks import TASKS, Task

DRAWS, DRAWS_OF_MANY, MANY = {"text": 5, "image": 3}, 2, 1000
"""Of labels; of training from scratch with more labels than that, where they hardly matter and take minutes."""
SCRATCH_DRAWS = 3
Row = dict[str, Any]


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "transfer_study.json")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--task", action="append", choices=list(TASKS), help="only these; may be repeated")
    parser.add_argument("--page", type=Path, help="draw the figures too: .html or .png")
    parser.set_defaults(threads=1)  # a barrier between two would count as work
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    before = json.loads(options.json.read_text()) if options.json.exists() else {}
    asked = list(TASKS) if options.task is None else options.task
    rows = [row for row in before.get("rows", []) if row["task"] not in asked]
    for name in asked:
        rows += study(TASKS[name](options.data))
        rows.sort(key=lambda row: list(TASKS).index(row["task"]))
        write(options.json, question=__doc__.splitlines()[0], needed=needed(rows), rows=rows)
    if options.page is not None:
        write_study(options.page, rows, needed(rows))


def study(task: Task) -> list[Row]:
    """Every method with every number of labels."""
    rows = []
    for name, learn in methods(task).items():
        for per_class in counts(task):
            draws = draws_of(task, name, per_class)
            rows.append(measured(task, name, learn, per_class, draws))
            row = rows[-1]
            shown = f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]  {row['seconds']:.2f} s"
            print(f"{task.name:10s} {name:8s} {per_class or 'all'!s:>5s} {shown}", flush=True)
    return rows


def counts(task: Task) -> list[int | None]:
    """1, 2, 4, ... labels a class (of images 1, 4, 16, ...), as long as most classes have them, and all."""
    usual, step = int(np.median(np.bincount(task.train.codes))), 2 if task.texts else 4
    return [*(step**power for power in range(20) if step**power <= 0.75 * usual), None]


def draws_of(task: Task, method: str, per_class: int | None) -> int:
    items = len(task.train.codes) if per_class is None else per_class * task.classes
    if method == "scratch":
        return DRAWS_OF_MANY if items > MANY else SCRATCH_DRAWS
    return 1 if per_class is None else DRAWS["text" if task.texts else "image"]


def measured(task: Task, name: str, learn: Method, per_class: int | None, draws: int) -> Row:
    """Mean, lowest and highest over the draws; and the 95 % interval that the size of the test part leaves."""
    from coldpress.probes.evaluate import wilson_interval

    outcomes = [learn(drawn(task, per_class, seed), seed) for seed in range(draws)]
    accuracies, items = [one.accuracy for one in outcomes], len(task.test.codes)
    return {
        "task": task.name,
        "title": task.title,
        "method": name,
        "per_class": per_class,
        "labels": len(drawn(task, per_class, 0)),
        "draws": draws,
        "accuracy": round(mean(accuracies), 4),
        "low": round(min(accuracies), 4),
        "high": round(max(accuracies), 4),
        "test_items": items,
        "test_interval": [round(end, 4) for end in wilson_interval(round(mean(accuracies) * items), items)],
        "seconds": round(mean(one.seconds for one in outcomes), 3),
    }


def drawn(task: Task, per_class: int | None, seed: int) -> np.ndarray[Any, Any]:
    """Rows, ascending; a class with fewer gives all that it has."""
    rng = np.random.default_rng(seed)
    members = (rng.permutation(np.flatnonzero(task.train.codes == code))[:per_class] for code in range(task.classes))
    return np.sort(np.concatenate(list(members)))


def needed(rows: Sequence[Row]) -> list[Row]:
    """How many labels a class the others take for what frozen features reach with a few; None: not with all."""
    found = []
    for task in dict.fromkeys(row["task"] for row in rows):
        curves = {name: _curve(rows, task, name) for name in ("frozen", "raw", "scratch")}
        for aim in curves["frozen"]:
            if aim["per_class"] in (1, 4, 16, 64):
                others = {name: _reaches(curves[name], aim["accuracy"]) for name in ("raw", "scratch")}
                found.append({"task": task, "frozen": aim["per_class"], "accuracy": aim["accuracy"], **others})
    return found


def _curve(rows: Iterable[Row], task: str, method: str) -> list[Row]:
    return [row for row in rows if (row["task"], row["method"]) == (task, method)]


def _reaches(curve: Sequence[Row], accuracy: float) -> int | str | None:
    reached = next((row for row in curve if row["accuracy"] >= accuracy), None)
    return None if reached is None else reached["per_class"] or "all"


if __name__ == "__main__":
    main()
