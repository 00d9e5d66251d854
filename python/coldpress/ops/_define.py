"""Registers an op with torch: schema, reference, fake. The compiled kernels add themselves when loaded.

The reference is registered for every device (``CompositeExplicitAutograd``); a compiled kernel, registered for its
own device, takes precedence. So an op exists everywhere, and nowhere does a caller choose.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import torch

_LIBRARY = torch.library.Library("coldpress", "DEF")  # type: ignore[no-untyped-call]
_NAMES: dict[str, tuple[str, ...]] = {}
_in_reference_mode: ContextVar[bool] = ContextVar("_in_reference_mode", default=False)


def define(
    schema: str,
    *,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    cuda: Callable[..., Any] | None = None,
    compiled: tuple[str, ...] = ("CPU",),
) -> Callable[..., Any]:
    """Define ``coldpress::<schema>`` and return the callable that dispatches to it, or runs the reference.

    `cuda` runs on GPUs instead, on libraries that torch brings along; `compiled` are the devices, ``CPU`` or ``CUDA``,
    that a compiled part has a kernel for.
    """
    name = schema.split("(", maxsplit=1)[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
    _LIBRARY.impl(name, reference, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"coldpress::{name}", fake, lib=_LIBRARY)
    if cuda is not None:
        _LIBRARY.impl(name, cuda, "CUDA")  # type: ignore[no-untyped-call]
    op: Callable[..., Any] = getattr(torch.ops.coldpress, name).default
    _NAMES[name] = compiled

    def call(*args: Any) -> Any:
        return (reference if _in_reference_mode.get() else op)(*args)

    return call


def op_names(device: str = "CPU") -> list[str]:
    """The ops defined so far that have a compiled kernel for ``CPU`` or ``CUDA``, sorted."""
    return sorted(name for name, devices in _NAMES.items() if device in devices)


def in_reference_mode() -> bool:
    """Say whether this thread is to compute the yardstick of the certificate."""
    return _in_reference_mode.get()


class ReferenceMode:
    """Inside this context every coldpress op runs its plain-torch reference: the yardstick of the certificate.

    It holds for the thread that enters it. Not a ``TorchDispatchMode``, whose first use imports 800 modules (1.5 s).
    """

    def __enter__(self) -> ReferenceMode:
        self._token = _in_reference_mode.set(True)
        return self

    def __exit__(self, *error: object) -> None:
        _in_reference_mode.reset(self._token)
