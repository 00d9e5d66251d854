"""Does any input make the native JPEG path misbehave? Fuzzing with libFuzzer, AddressSanitizer and UBSan.

    python benchmarks/fuzz/run.py [--seconds 600] [--clang clang++-14]

Builds csrc/image with clang, makes a few tiny seeds of every kind of JPEG that Pillow writes, fuzzes for a bounded
time on one core and writes what it did. libjpeg-turbo itself is the system's and not instrumented: a wild read inside
it is seen only where it reaches memory of ours. Findings stay in the working folder, which is printed.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import RESULTS, machine

CSRC = Path(__file__).resolve().parents[2] / "csrc"
SANITIZERS = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
LEVELS = {
    "avx2": ["-mavx2", "-mfma"],
    "avx512": AVX512,
    "avx512_vnni": [*AVX512, "-mavx512vnni", "-DCOLDPRESS_ISA_IS_avx512"],
}


def build(clang: str, folder: Path) -> Path:
    """Compile the target and the code under test, all of it instrumented."""
    common = [clang, "-std=c++20", "-O1", "-g", "-DCOLDPRESS_WITH_JPEG", f"-I{CSRC}", *SANITIZERS]
    objects = []
    for level, flags in LEVELS.items():
        objects.append(folder / f"simd_{level}.o")
        defines = [f"-DCOLDPRESS_ISA_LEVEL={level}", f"-DCOLDPRESS_ISA_IS_{level}"]
        source = CSRC / "image" / "resample_simd.cpp"
        subprocess.run([*common, *flags, *defines, "-c", source, "-o", objects[-1]], check=True)
    # clang 14 does not know every CPU feature that isa.cpp asks about: the system's compiler builds that one.
    objects.append(folder / "isa.o")
    subprocess.run(["c++", "-std=c++20", f"-I{CSRC}", "-c", CSRC / "core" / "isa.cpp", "-o", objects[-1]], check=True)
    left_out = ("module.cpp", "resample_simd.cpp")
    sources = [file for file in sorted((CSRC / "image").glob("*.cpp")) if file.name not in left_out]
    target = folder / "fuzz_image"
    everything = [Path(__file__).with_name("fuzz_image.cpp"), *sources, *objects]
    subprocess.run([*common, *everything, "-ljpeg", "-lpthread", "-o", target], check=True)
    return target


def write_seeds(folder: Path) -> int:
    """Write tiny JPEGs of every kind, each behind five bytes that choose its transform."""
    rng = np.random.default_rng(0)
    kinds: list[dict[str, Any]] = [{"subsampling": s, "progressive": p} for s in (0, 1, 2) for p in (False, True)]
    kinds += [{"keep_rgb": True}, {"restart_marker_blocks": 1}, {"optimize": True}]
    for i, options in enumerate(kinds):
        for mode in ("RGB", "L"):
            size = rng.integers(1, 60, 2)
            pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8) // 32 * 32
            buffer = io.BytesIO()
            Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", quality=40, **options)
            (folder / f"{i}{mode}").write_bytes(rng.bytes(5) + buffer.getvalue())
    return len(list(folder.iterdir()))


def figures(log: str) -> dict[str, Any]:
    """Return what libFuzzer says about itself."""
    statistics = {k: int(v) for k, v in re.findall(r"stat::(\w+):\s+(\d+)", log)}
    coverage = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", log)[-1]
    return {
        "executions": statistics["number_of_executed_units"],
        "executions_per_s": statistics["average_exec_per_sec"],
        "new_inputs": statistics["new_units_added"],
        "peak_rss_mb": statistics["peak_rss_mb"],
        "edges_covered": int(coverage[0]),
        "features_covered": int(coverage[1]),
        "corpus": int(coverage[2]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="how long to fuzz (default 600)")
    parser.add_argument("--clang", default="clang++-14", help="compiler with libFuzzer (default clang++-14)")
    parser.add_argument("--json", type=Path, default=RESULTS / "fuzz_image.json", help="where to write")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz_image_"))
    corpus, findings = folder / "corpus", folder / "findings"
    corpus.mkdir()
    findings.mkdir()
    seeds, target = write_seeds(corpus), build(options.clang, folder)
    print(f"fuzzing in {folder}", flush=True)
    command = [target, corpus, f"-max_total_time={options.seconds}", f"-artifact_prefix={findings}/"]
    command += ["-max_len=4096", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-close_fd_mask=1"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    (folder / "log").write_text(done.stderr)
    found = sorted(file.name for file in findings.iterdir())
    record = {
        "question": __doc__.splitlines()[0],
        "machine": machine(),
        "instrumented": "csrc/image; not libjpeg-turbo, which is the system's library",
        "sanitizers": "AddressSanitizer, UndefinedBehaviorSanitizer, libFuzzer",
        "seconds": options.seconds,
        "seeds": seeds,
        **figures(done.stderr),
        "findings": found,
    }
    options.json.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))
    if found or done.returncode:
        sys.exit(f"libFuzzer ended with {done.returncode}; findings and log in {folder}")


if __name__ == "__main__":
    main()
