"""How long until the first vector?

    python benchmarks/start.py [--repeats 15]

Fresh processes on a warm disk cache, alternating: an interpreter that does nothing, `import torch`, `import coldpress`
(whose names are loaded on first use), and `from coldpress import Extractor`, which is all a program needs. Then, after
that import, the seconds to the first vector of MiniLM in each arithmetic, and those that packing its weights takes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from typing import Any

from harness import arguments, machine

IMPORTS = {
    "nothing": "pass",
    "import torch": "import torch",
    "import coldpress": "import coldpress",
    "from coldpress import Extractor": "from coldpress import Extractor",
}
FIRST_VECTOR = """
import time
from coldpress import Extractor
begin = time.perf_counter()
extractor = Extractor("all-MiniLM-L6-v2", device="cpu", precision="{precision}")
extractor.embed(["the first text"])
print(time.perf_counter() - begin)
"""
PACKING = """
import time
from coldpress import models
backbone = models.load("all-MiniLM-L6-v2").backbone
begin = time.perf_counter()
backbone.prepare("{precision}")
print(time.perf_counter() - begin)
"""


def process_s(code: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begin


def printed_s(code: str) -> float:
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "start.json")
    parser.set_defaults(repeats=15)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    for turn in range(options.repeats + 1):
        measured = {name: process_s(code) for name, code in IMPORTS.items()}
        for precision in ("fp32", "int8"):
            measured[f"first vector, {precision}"] = printed_s(FIRST_VECTOR.format(precision=precision))
            measured[f"packing, {precision}"] = printed_s(PACKING.format(precision=precision))
        for name, value in measured.items():
            if turn:  # the first turn warms the disk cache
                seconds.setdefault(name, []).append(value)
    torch_s = seconds["import torch"]
    rows: list[dict[str, Any]] = []
    for name, values in seconds.items():
        ratios = [value / base for value, base in zip(values, torch_s, strict=True)]
        row = {"what": name, "median_s": statistics.median(values), "low_s": min(values), "high_s": max(values)}
        if name in IMPORTS:
            row |= {"ratio": statistics.median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios)}
        rows.append(row)
        ratio = f"  x{row['ratio']:.3f} of import torch" if "ratio" in row else ""
        print(f"{name:32s} {row['median_s']:.4f} s [{row['low_s']:.4f}, {row['high_s']:.4f}]{ratio}")
    question = "seconds until coldpress is imported, until its first vector, and for packing MiniLM"
    options.json.write_text(json.dumps({"question": question, "machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
