"""Conditions on metadata: ``label = cat``, ``{"label": "cat"}``, ``{"label": ["cat", "dog"], "year": {">=": 1990}}``.

Or any expression of pyarrow. A column of texts that are all numbers, as a csv file gives, is ordered by number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import and_, eq, ge, gt, le, lt, ne
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coldpress.errors import ColdpressError
from coldpress.index.rows import RowTable

Where = str | Sequence[str] | Mapping[str, Any] | pc.Expression
"""What `VectorIndex.search` takes: all conditions have to hold."""

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {"!=": ne, "<=": le, ">=": ge, "=": eq, "<": lt, ">": gt}
_CONDITION = re.compile(r"\s*(?P<column>.*?)\s*(?P<operator>!=|<=|>=|=|<|>)\s*(?P<value>.*?)\s*", re.DOTALL)
_ROW = "__row__"


def matching(table: RowTable, where: Where) -> npt.NDArray[np.bool_]:
    """For each row whether it meets the conditions; null meets none but ``None``.

    Raises
    ------
    ColdpressError
        An unknown column, a value that is not of the column's type, or something that is no condition.
    """
    mask = np.zeros(len(table), np.bool_)
    if isinstance(where, pc.Expression):
        columns, expression = (*table.columns, "key"), where
    else:
        conditions = list(_conditions(where))
        columns = tuple(dict.fromkeys(column for column, _, _ in conditions))
        expression = reduce(and_, (_expression(table, *condition) for condition in conditions))
    rows = pa.table({name: table.column(name) for name in columns} | {_ROW: np.arange(len(table))})
    try:
        mask[rows.filter(expression).column(_ROW).to_numpy()] = True
    except pa.ArrowException as error:
        raise ColdpressError(f"the condition {where} cannot be evaluated: {error}") from error
    return mask


def _conditions(where: str | Sequence[str] | Mapping[str, Any]) -> Sequence[tuple[str, str, Any]]:
    if isinstance(where, Mapping):
        found = [(column, *pair) for column, value in where.items() for pair in _pairs(value)]
    else:
        found = [_parse(text) for text in ([where] if isinstance(where, str) else where)]
    if not found:
        raise ColdpressError("where has no condition, expected at least one such as 'label = cat': leave it out")
    return found


def _pairs(value: Any) -> list[tuple[str, Any]]:
    """``{">=": 3, "<": 9}`` as its parts; anything else is what the column has to equal."""
    if not isinstance(value, Mapping):
        return [("=", value)]
    if not value or not set(value) <= set(_OPERATORS):
        raise ColdpressError(f"where has {value!r}, expected operators among {', '.join(_OPERATORS)}")
    return list(value.items())


def _parse(text: str) -> tuple[str, str, Any]:
    match = _CONDITION.fullmatch(text)
    if match is None or not match["column"]:
        raise ColdpressError(f"where is {text!r}, expected COLUMN = VALUE (or !=, <, <=, >, >=), such as 'label = cat'")
    return match["column"], match["operator"], match["value"]


def _expression(table: RowTable, column: str, operator: str, value: Any) -> pc.Expression:
    kind, field = table.column(column).type, pc.field(column)
    several = isinstance(value, list | tuple | set)
    if (value is None or several) and operator not in ("=", "!="):
        raise ColdpressError(f"where has {column!r} {operator} {value!r}, expected one value to compare with")
    present: Any = field.is_valid()
    if value is None:
        return present if operator == "!=" else field.is_null()
    if several:
        among = field.isin(pa.array([_as(kind, column, one) for one in value], kind))
        return among if operator == "=" else present & ~among
    if operator not in ("=", "!=") and (number := _number(value)) is not None and _holds_numbers(table.column(column)):
        field, kind, value = _as_number(field), pa.float64(), number
    expression: pc.Expression = _OPERATORS[operator](field, pa.scalar(_as(kind, column, value), kind))
    return expression


def _is_text(kind: Any) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _number(value: Any) -> float | None:
    """A number, also where it was written as text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _as_number(texts: Any) -> Any:
    """Texts as numbers, the empty one as null."""
    return pc.if_else(pc.equal(texts, pa.scalar("")), None, texts).cast(pa.float64())


def _holds_numbers(column: Any) -> bool:
    """Whether all texts of a column are numbers; as texts, 40 would be more than 100."""
    if not _is_text(column.type):
        return False
    try:
        return bool(_as_number(column).null_count < len(column))
    except pa.ArrowInvalid:
        return False


def _as(kind: Any, column: str, value: Any) -> Any:
    """The value in the column's type, also where it was written as text."""
    try:
        if isinstance(value, str) and not _is_text(kind):
            return pa.scalar(value).cast(kind).as_py()
        return pa.scalar(value, kind).as_py()
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ColdpressError(f"where compares column {column!r}, which holds {kind}, with {value!r}") from error
