"""The package with its compiled parts deleted, and the choice of an instruction set, each in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import coldpress
from coldpress import _library, ops
from coldpress.ops.linear import linear_reference


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **env}, timeout=120
    )


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package without its compiled parts."""
    root = tmp_path_factory.mktemp("bare")
    source = Path(coldpress.__file__).parent
    shutil.copytree(source, root / "coldpress", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    return root


def test_importing_warns_once_and_references_run(bare: Path, minilm: Path) -> None:
    code = f"""
import warnings, sys
sys.path.insert(0, {str(bare)!r})
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    import coldpress
    extractor = coldpress.Extractor({str(minilm)!r}, device="cpu")
    vectors = extractor.embed(["a text", "another, longer text"])
    ours = [w for w in seen if "coldpress" in str(w.message)]
print(coldpress.__file__)
print(len(ours), coldpress._library.isa(), *(f"{{v:.6f}}" for v in vectors[1, :4]))
print(ours[0].message)
"""
    path, line, message = run(code).stdout.strip().splitlines()
    assert path.startswith(str(bare))
    count, isa, *values = line.split()
    assert (count, isa) == ("1", "reference")
    assert "without its compiled kernels" in message
    here = coldpress.Extractor(minilm, device="cpu").embed(["a text", "another, longer text"])
    assert [float(v) for v in values] == pytest.approx(here[1, :4].tolist(), abs=2e-6)


def test_an_isa_can_be_forced() -> None:
    code = "import coldpress.ops; from coldpress import _library; print(_library.isa())"
    for level in _library.isa_levels():
        assert run(code, COLDPRESS_ISA=level).stdout.strip() == level
    unknown = run(code, COLDPRESS_ISA="mmx")
    assert unknown.stdout.strip() == _library.isa_levels()[-1]
    assert "COLDPRESS_ISA=mmx cannot run here" in unknown.stderr
    with pytest.raises(ValueError, match="'mmx' cannot run here"), _library.use_isa("mmx"):
        pass


def test_reference_mode_runs_the_reference() -> None:
    x, packed, bias = torch.randn(7, 300), ops.pack_weight(torch.randn(65, 300)), torch.randn(65)
    with ops.ReferenceMode():
        inside = ops.linear(x, packed, bias, "gelu")
    assert torch.equal(inside, linear_reference(x, packed, bias, "gelu"))
    assert not torch.equal(inside, ops.linear(x, packed, bias, "gelu"))


def test_every_op_has_a_kernel() -> None:
    missing = [
        n for n in ops.op_names() if not torch._C._dispatch_has_kernel_for_dispatch_key(f"coldpress::{n}", "CPU")
    ]
    assert missing == []
