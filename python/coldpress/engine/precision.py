"""Which arithmetic a backbone runs in, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from coldpress import _library
from coldpress.errors import ColdpressError
from coldpress.types import mode_label

Precision = Literal["auto", "fp32", "fp16", "bf16", "int16", "int8", "fp8"]
MODES: Mapping[str, tuple[Precision, ...]] = {
    "cpu": ("fp32", "int16", "int8"),
    "cuda": ("fp32", "fp16", "bf16", "fp8"),
}
"""Modes that a device can run, in the order in which ``auto`` prefers them, the first one last.

On a GPU both 16-bit formats are equally fast; bfloat16 cannot overflow on an item that the certificate has not seen.
"""

ASKED_FOR = ("fp8",)
"""Modes that ``auto`` leaves alone."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The mode of a run, the layers that run in another one, by name, and one sentence that says why."""

    mode: str
    reason: str
    layers: Mapping[str, str] = field(default_factory=dict)
    calibration: Mapping[str, Sequence[float]] | None = None

    @property
    def label(self) -> str:
        """Mode and layers for people."""
        return mode_label(self.mode, self.layers)


def choose_precision(asked: str, supported: Sequence[str] = ("fp32",), device: str = "cpu") -> Choice:
    """Resolve ``auto`` without data, and refuse what cannot run.

    Parameters
    ----------
    asked : ``auto`` or a mode.
    supported : modes of the backbone.
    device : type of the device, ``cpu`` or ``cuda``.

    Raises
    ------
    ColdpressError
        If the mode is unknown, or not available for this backbone on this device.
    """
    if asked == "auto":
        return Choice("fp32", "the reference, as long as no data have been seen")
    possible = [mode for mode in MODES[device] if mode in supported]
    if asked not in possible:
        where = f" for this model on {device}" if any(asked in modes for modes in MODES.values()) else ""
        raise ColdpressError(f"precision {asked!r} is not available{where}; expected auto or {', '.join(possible)}")
    if asked == "fp8" and torch.cuda.get_device_capability() < (8, 9):
        raise ColdpressError(
            "precision 'fp8' needs a GPU that multiplies it (Ada, Hopper or newer); expected auto or bf16"
        )
    if asked != "fp32" and device == "cpu" and not integers_are_faster():
        return Choice(asked, f"as asked, though no faster than fp32 on this machine ({_library.isa()})")
    return Choice(asked, "as asked")


def choose_layers(
    choice: Choice, layers: Mapping[str, str], names: Collection[str], supported: Sequence[str], device: str = "cpu"
) -> Choice:
    """Except `layers`, a mode each by name, from the mode of a choice; refuse what cannot run.

    Parameters
    ----------
    names : of the layers that there are.
    supported, device : as for :func:`choose_precision`.

    Raises
    ------
    ColdpressError
        If there is no such layer, or its mode is not available.
    """
    for name, mode in layers.items():
        if name not in names:
            known = f"one of {len(names)} such as {next(iter(names))!r}" if names else "none for this model"
            raise ColdpressError(f"layer_precision names {name!r}, expected linear layers of this model: {known}")
        if mode == "auto":
            raise ColdpressError(f"layer_precision of {name} is auto, expected one of {', '.join(supported)}")
        choose_precision(mode, supported, device)
    return replace(choice, layers=dict(sorted(layers.items())))


def candidates(asked: str, supported: Sequence[str], device: str = "cpu") -> tuple[Choice, ...]:
    """Modes worth trying for `asked` on this machine, the fastest first; the last one needs no certificate to pass.

    Raises
    ------
    ColdpressError
        As :func:`choose_precision` does.
    """
    if asked != "auto":
        return (choose_precision(asked, supported, device),)
    exact = Choice("fp32", "the fastest mode of this model on this machine")
    if device == "cpu" and not integers_are_faster():
        return (exact,)
    reason = "the fastest mode; its certificate passed on a sample of this data"
    tried = [mode for mode in reversed(MODES[device]) if mode in supported and mode not in ("fp32", *ASKED_FOR)]
    return *(Choice(mode, reason) for mode in tried), exact


def integers_are_faster() -> bool:
    """Whether this machine multiplies integers faster than floats: it has AVX-512 VNNI, and the kernels are there.

    Against fp32, vpdpbusd takes four times as many bytes in an instruction, vpdpwssd twice as many words.
    """
    return _library.isa() == "avx512-vnni"
