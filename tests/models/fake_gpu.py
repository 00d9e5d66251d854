"""A GPU that computes nothing: shapes, dtypes and devices as they would be there, and an error where somebody waits.

A network runs op by op on torch's fake tensors. Ops of ours that have a compiled kernel answer with the shapes of their
results, the others run what would run on a GPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from coldpress import ops
from coldpress.models import Backbone
from coldpress.ops import attention_cuda
from coldpress.types import Batch, ImageBatch, Output, TextBatch

GPU = torch.device("cuda", 0)


class Watch(TorchDispatchMode):
    """Inside, nothing may happen that no CUDA graph can hold: data go from one memory to another, or are asked for."""

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "coldpress" and func._opname not in ops.op_names("CUDA"):
            kernel = torch.library.get_kernel(func, "CUDA")
            with self:
                return kernel.call_boxed(torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA), *args, **kwargs)
        made = func(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs, made)) if isinstance(leaf, torch.Tensor)]
        devices = {tensor.device for tensor in tensors if tensor.dim() or tensor.is_cuda}
        assert devices <= {GPU}, f"{func} moves data between {devices}"
        return made


@contextmanager
def fake_gpu() -> Iterator[FakeTensorMode]:
    """Inside, there is a GPU; nothing has values."""
    with pytest.MonkeyPatch.context() as patch, _device_guard(), FakeTensorMode() as mode:
        patch.setattr(attention_cuda, "_has_flash", lambda _device: True)
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", _attention)
        yield mode


@contextmanager
def _device_guard() -> Iterator[None]:
    """Let a torch for CPUs index tensors of a GPU: the CPU's guard, which does nothing, stands in for the GPU's.

    A torch for GPUs has one that does nothing where there is no GPU.
    """
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * 2).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    cpu, before = guards
    guards[1] = before or cpu
    try:
        yield
    finally:
        guards[1] = before


def assert_nothing_waits(backbone: Backbone, batch: Batch, precision: str, *asked: Sequence[Output]) -> None:
    """Run a network there for each of the groups of outputs that are `asked` for: all is and stays on the device."""
    longest = int(batch.cu_seqlens.diff().max()) if isinstance(batch, TextBatch) else 0
    with fake_gpu() as mode, torch.inference_mode():
        _move(backbone, mode)
        backbone.prepare(precision)
        there = _batch_there(batch, longest, mode)
        for outputs in asked:
            with Watch():
                vectors = backbone(there, outputs)
            for output in outputs:
                rows = vectors[output.name]
                assert (rows.device, rows.dtype) == (GPU, torch.float32)
                assert rows.shape == (len(batch), backbone.dim(output))


def _move(module: nn.Module, mode: FakeTensorMode) -> None:
    """Put parameters and buffers there, as ``module.to`` does."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                there = mode.from_tensor(parameter).to(GPU)
                part._parameters[name] = nn.Parameter(there, requires_grad=False)
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else mode.from_tensor(buffer).to(GPU)


def _batch_there(batch: Batch, longest: int, mode: FakeTensorMode) -> TextBatch | ImageBatch:
    """A batch there; no text of it is longer than `longest`."""
    if isinstance(batch, TextBatch):
        return TextBatch(mode.from_tensor(batch.ids).to(GPU), mode.from_tensor(batch.cu_seqlens).to(GPU), longest)
    assert isinstance(batch, ImageBatch)
    return ImageBatch(mode.from_tensor(batch.pixels).to(GPU))


def _attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attn_mask: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """What the kernels of scaled_dot_product_attention ask for; the real one asks a real GPU which of them it has."""
    (B, H, asking, D), length = q.shape, k.shape[2]
    assert k.shape == v.shape == (B, H, length, D)
    assert q.dtype == k.dtype == v.dtype
    assert q.stride(3) == k.stride(3) == v.stride(3) == 1
    assert D % 8 == 0 or q.dtype == torch.float32
    assert scale > 0
    if attn_mask is not None:
        assert attn_mask.dtype == q.dtype
        torch.broadcast_to(attn_mask, (B, H, asking, length))
    return q.new_empty(B, asking, H, D).transpose(1, 2)
