"""What labels mean: classes, numbers, or several labels an item."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from coldpress.errors import ColdpressError

Task = Literal["classify", "regress", "multilabel"]
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
MOST_WHOLE, FEWEST_A_NUMBER = 20, 5
"""More whole numbers than the one, with fewer items each than the other, are measurements and not classes."""


def is_missing(value: Any) -> bool:
    """Whether a value means "no label"."""
    if isinstance(value, str):
        return not value
    # pandas writes a missing value as None, NaN, NaT or <NA>
    return value is None or str(value) in ("nan", "NaT", "<NA>")


def as_array(values: list[Any], origin: str) -> npt.NDArray[Any]:
    """`values` as one array: int64 where all are whole numbers, else str; `origin` names them in an error."""
    if all(isinstance(value, str) and _INTEGER.fullmatch(value) for value in values):
        return np.asarray([int(value) for value in values], dtype=np.int64)
    if all(isinstance(value, Real) and not isinstance(value, bool) for value in values):
        continuous = next((value for value in values if not float(value).is_integer()), None)
        if continuous is not None:
            raise ColdpressError(
                f"{origin} holds the label {continuous}, expected classes (text or whole numbers): bin them, or predict"
                " the number itself with fit_regression (--task regress)"
            )
        return np.asarray([int(value) for value in values], dtype=np.int64)
    return np.asarray([str(value) for value in values], dtype=np.str_)


def as_numbers(values: Sequence[Any], origin: str) -> npt.NDArray[np.float64]:
    """`values` as one float64 array; `origin` names them in an error."""
    found = np.empty(len(values))
    for place, value in enumerate(values):
        number = _number(value)
        if number is None:
            raise ColdpressError(f"{origin} holds the label {value!r}, expected finite numbers: correct or remove it")
        found[place] = number
    return found


def as_sets(
    values: Sequence[Any], origin: str, separator: str | None = None
) -> tuple[npt.NDArray[np.uint8], tuple[str | int, ...]]:
    """`values` as (N, L) of 0 and 1, and the L labels: of lists, their JSON, or text with a `separator`."""
    sets = [_set(value, separator) for value in values]
    given = list(dict.fromkeys(label for one in sets for label in one))
    if not given:
        raise ColdpressError(f"{origin} holds lists without any label: name another column or a file")
    names, places = np.unique(as_array(given, origin), return_inverse=True)
    column = dict(zip(given, places.tolist(), strict=True))
    found = np.zeros((len(sets), len(names)), dtype=np.uint8)
    for row, one in enumerate(sets):
        found[row, [column[label] for label in one]] = 1
    return found, tuple(names.tolist())


def infer_task(values: Sequence[Any]) -> tuple[Task, str]:
    """What labels are for, and why, for people.

    Examples
    --------
    >>> infer_task([0.5, 2, 3])
    ('regress', 'the labels are numbers, and not all are whole')
    >>> infer_task(["bee", "ant"])[0], infer_task([["bee", "ant"], []])[0], infer_task([0, 1, 1])[0]
    ('classify', 'multilabel', 'classify')
    """
    if any(_listed(value) is not None for value in values):
        return "multilabel", "the labels are lists"
    numbers = [_number(value) for value in values]
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers):
        return "classify", "the labels are not numbers"
    if not all(number.is_integer() for number in known):
        return "regress", "the labels are numbers, and not all are whole"
    distinct = len(set(known))
    if distinct > MOST_WHOLE and len(known) < FEWEST_A_NUMBER * distinct:
        return "regress", f"the labels are {distinct} different whole numbers of {len(known)} items"
    return "classify", f"the labels are {distinct} different whole numbers"


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _listed(value: Any) -> list[Any] | None:
    """A list, or the JSON text of one, as metadata columns hold it."""
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return list(value)
    if isinstance(value, str) and value.startswith("["):
        try:
            found = json.loads(value)
        except ValueError:
            return None
        return found if isinstance(found, list) else None
    return None


def _set(value: Any, separator: str | None) -> list[Any]:
    listed = _listed(value)
    if listed is not None:
        return [label for label in listed if not is_missing(label)]
    if separator is None or not isinstance(value, str):
        return [value]
    return [label.strip() for label in value.split(separator) if label.strip()]
