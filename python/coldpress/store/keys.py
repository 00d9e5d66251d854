"""`Keys`: the keys of all rows as a sequence of strings that 50 million of them do not burst."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_CHUNK = 65_536


class Keys:
    """Keys in row order, kept in one Arrow array: their own bytes and 8 more each, a fifth of Python strings.

    An integer gives a ``str``; a slice, an index array or a mask gives a numpy array of ``str`` objects, as does
    ``numpy.asarray(keys)``. `to_arrow` hands out the array without a copy.
    """

    def __init__(self, array: pa.Array[Any]) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice | npt.ArrayLike) -> npt.NDArray[np.object_]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int | np.integer):
            row = int(index)
            if not -len(self) <= row < len(self):
                raise IndexError(f"row {row} is out of bounds for {len(self)} keys")
            return self._array[row % len(self)].as_py()
        rows = np.arange(len(self), dtype=np.int64)[index]
        return self._array.take(pa.array(rows)).to_numpy(zero_copy_only=False)

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _CHUNK):
            strings: list[Any] = self._array.slice(start, _CHUNK).to_pylist()
            yield from strings

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.find(key) is not None

    def __array__(
        self,
        dtype: npt.DTypeLike | None = None,
        copy: bool | None = None,  # noqa: FBT001 (numpy's protocol)
    ) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("keys cannot become a numpy array without a copy")
        strings: npt.NDArray[Any] = self._array.to_numpy(zero_copy_only=False)
        return strings if dtype is None else strings.astype(dtype)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self._array.slice(0, 3).to_pylist()))
        return f"Keys([{shown}{', ...' if len(self) > 3 else ''}], {len(self):,} keys)"

    def to_arrow(self) -> pa.Array[Any]:
        """The keys as an Arrow array, without a copy."""
        return self._array

    def find(self, key: str) -> int | None:
        """The first row with that key, or None. The first call sorts the keys (8 bytes each), later ones are quick."""
        order = self._order
        # Arrow sorts by UTF-8 bytes, which is the order of code points, which is how Python compares strings.
        place = bisect_left(order, key, key=lambda row: str(self[int(row)]))
        if place < len(order) and self[int(order[place])] == key:
            return int(order[place])
        return None

    @cached_property
    def _order(self) -> npt.NDArray[np.uint64]:
        order: npt.NDArray[np.uint64] = pc.sort_indices(self._array).to_numpy()
        return order
