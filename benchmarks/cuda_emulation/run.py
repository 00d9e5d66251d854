"""Are the CUDA kernels right? Runs their tests on a CPU, each kernel compiled by the C++ compiler in an emulation.

    python benchmarks/cuda_emulation/run.py [-k EXPRESSION]

Needs CUDA's headers (CUDA_HOME, /usr/local/cuda) and a C++20 compiler; takes about two minutes on one core. What it
cannot see is said in emulation.h: on a GPU, ``benchmarks/gpu.sh`` has the last word.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = Path(torch.__file__).parent
NAMES = (
    "layer_norm bias_activation every_row pool patchify residual norm_quantized rope quantize token resized the_cast "
    "an_empty an_item unaligned"
)
KERNELS = " or ".join(f"test_{name}" for name in NAMES.split())

REWRITES = [
    (
        r"kernel<<<blocks, threads, shared_bytes, stream_>>>\(",
        "emulation::launch(kernel, blocks, threads, shared_bytes, stream_, ",
    ),
    (r"explicit Launch\(const Tensor& t\) : guard_\(.*?\n  }", "explicit Launch(const Tensor&) {}"),
    (r"torch::stable::accelerator::DeviceGuard guard_;", ""),
    (r"cudaGetLastError\(\)", "cudaSuccess"),
    (r"cudaGetErrorString\(error\)", '""'),
    (r"is_cuda\(\)", "defined()"),
    (r"extern __shared__ float (\w+)\[\];", r"float* \1 = emulation::shared.data();"),
    (r"\b__shared__\b", "static"),
    (r"\(coldpress, CUDA, m\)", "(coldpress, CPU, m)"),
    (r"#include <cuda_bf16.h>", '#include <cuda_runtime.h>\n#include "emulation.h"\n#include <cuda_bf16.h>'),
]


def build(directory: Path) -> Path:
    """Compile the kernels as ops of the CPU."""
    target, objects = directory / "emulated.so", []
    cuda = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include"
    (directory / "cuda").mkdir()
    for path in sorted((ROOT / "csrc" / "cuda").glob("*.cu*")):
        source = path.read_text()
        for pattern, replacement in REWRITES:
            source = re.sub(pattern, replacement, source, flags=re.DOTALL)
        (directory / "cuda" / path.name).write_text(source)
    options = ["-std=c++20", "-O1", "-w", "-fPIC", "-DTORCH_TARGET_VERSION=0x020a000000000000", "-DUSE_CUDA"]
    options += [f"-I{directory}", f"-I{Path(__file__).parent}", f"-isystem{cuda}", f"-isystem{LIBRARIES / 'include'}"]
    for path in sorted((directory / "cuda").glob("*.cu")):
        objects.append(path.with_suffix(".o"))
        subprocess.run(["c++", *options, "-xc++", "-c", path, "-o", objects[-1]], check=True)
    subprocess.run(
        ["c++", "-shared", "-o", target, *objects, f"-L{LIBRARIES / 'lib'}", "-ltorch_cpu", "-lc10"], check=True
    )
    return target


def write_tests(directory: Path, library: Path) -> None:
    """The tests of the kernels, with tensors of the CPU."""
    tests = ROOT / "tests" / "ops"
    source = (tests / "test_cuda.py").read_text().replace("pytestmark = pytest.mark.cuda", "")
    source = re.sub(r',? ?device="cuda"|\.cuda\(\)', "", source)
    (directory / "test_emulated.py").write_text(source)
    (directory / "rule.py").write_text((tests / "rule.py").read_text())
    (directory / "conftest.py").write_text(
        f"import pytest, torch\nfrom coldpress import ops\ntorch.ops.load_library({str(library)!r})\n\n\n"
        "@pytest.fixture(autouse=True)\ndef _seeded():\n    torch.manual_seed(0)\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-k", default=KERNELS, help="which tests (default: all of the kernels)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_tests(directory, build(directory))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", options.k, "test_emulated.py"]
        sys.exit(subprocess.run(command, cwd=directory, check=False).returncode)


if __name__ == "__main__":
    main()
