"""Registers an op with torch: schema, reference, fake. The compiled kernels add themselves when loaded.

The reference is registered for every device (``CompositeExplicitAutograd``); a compiled kernel, registered for its
own device, takes precedence. So an op exists everywhere, and nowhere does a caller choose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_LIBRARY = torch.library.Library("coldpress", "DEF")  # type: ignore[no-untyped-call]
_REFERENCES: dict[Any, Callable[..., Any]] = {}


def define(schema: str, *, reference: Callable[..., Any], fake: Callable[..., Any]) -> Callable[..., Any]:
    """Define ``coldpress::<schema>`` and return the callable that dispatches to it."""
    name = schema.split("(", maxsplit=1)[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
    _LIBRARY.impl(name, reference, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"coldpress::{name}", fake, lib=_LIBRARY)
    op: Callable[..., Any] = getattr(torch.ops.coldpress, name).default
    _REFERENCES[op] = reference
    return op


def op_names() -> list[str]:
    """The ops defined so far, sorted."""
    return sorted(op.name().split("::")[1] for op in _REFERENCES)


class ReferenceMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside this context every coldpress op runs its plain-torch reference: the yardstick of the certificate."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _REFERENCES.get(func, func)(*args, **(kwargs or {}))
