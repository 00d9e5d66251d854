"""What does a whole run cost beyond the bare engine?

    python benchmarks/overhead.py [--n 20000] [--repeats 3] [--precisions int8 fp32]

MiniLM on texts of mixed length (documentation paragraphs, each with a number in front so that all differ). The bare
engine is `Extractor.embed` of texts in memory; `to a store` reads a .jsonl file, tokenises, certifies, computes and
commits. The two alternate, and the ratio is engine seconds over run seconds; `without the certificate` leaves out what
is paid once a run. `compute alone` starts from token ids: its ratio counts tokenising, which shares the same cores, as
overhead. `by CPU time` is the ratio of processor seconds, which does not see what else the machine is doing.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from harness import arguments, machine
from texts import documentation_paragraphs

from coldpress import Columns, Extractor, Summary
from coldpress.engine import Computer, parse_outputs
from coldpress.types import ModelInput


def write_texts(path: Path, count: int) -> list[str]:
    paragraphs = documentation_paragraphs(2000)
    texts = [f"{i}: {paragraphs[i % len(paragraphs)]}" for i in range(count)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return texts


def compare(precision: str, source: Path, texts: list[str], options: Any) -> dict[str, Any]:
    extractor = Extractor("all-MiniLM-L6-v2", device="cpu", precision=precision, threads=options.threads)
    inputs: list[ModelInput] = list(extractor._preprocess(texts))  # type: ignore[arg-type]
    outputs = parse_outputs("pooled", extractor.model.backbone.depth)
    compute = Computer(extractor.model, outputs, torch.device("cpu"), precision, options.threads)
    compute(inputs[:2000])
    alone_s, engine_s, engine_cpu_s, run_cpu_s = list[float](), list[float](), list[float](), list[float]()
    runs: list[Summary] = []
    for _ in range(options.repeats):
        begin = time.perf_counter()
        for at in range(0, len(inputs), 512):
            compute(inputs[at : at + 512])
        alone_s.append(time.perf_counter() - begin)
        begin, cpu = time.perf_counter(), time.process_time()
        extractor.embed(texts)
        engine_s.append(time.perf_counter() - begin)
        engine_cpu_s.append(time.process_time() - cpu)
        store, cpu = source.parent / "store", time.process_time()
        runs.append(extractor.run(store, source, columns=Columns(text="text")))
        run_cpu_s.append(time.process_time() - cpu)
        shutil.rmtree(store)
    ratios = [alone / run.seconds for alone, run in zip(engine_s, runs, strict=True)]
    steady = [alone / (run.seconds - run.stages["certify"]) for alone, run in zip(engine_s, runs, strict=True)]
    row = {
        "precision": precision,
        "engine_per_s": len(texts) / statistics.median(engine_s),
        "run_per_s": len(texts) / statistics.median(run.seconds for run in runs),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "ratio_without_certificate": statistics.median(steady),
        "cpu_ratio": statistics.median(a / b for a, b in zip(engine_cpu_s, run_cpu_s, strict=True)),
        "ratio_to_compute_alone": statistics.median(a / run.seconds for a, run in zip(alone_s, runs, strict=True)),
        "compute_alone_s": alone_s,
        "certify_s": [run.stages["certify"] for run in runs],
        "engine_s": engine_s,
        "engine_cpu_s": engine_cpu_s,
        "run_cpu_s": run_cpu_s,
        "run_s": [run.seconds for run in runs],
        "stages": dict(runs[-1].stages),
    }
    print(
        f"{precision}: engine {row['engine_per_s']:,.0f}/s, to a store {row['run_per_s']:,.0f}/s, ratio "
        f"{row['ratio']:.3f} [{row['ratio_low']:.3f}, {row['ratio_high']:.3f}], without the certificate "
        f"{row['ratio_without_certificate']:.3f}, by CPU time {row['cpu_ratio']:.3f}; "
        f"to compute alone {row['ratio_to_compute_alone']:.3f}\n"
        f"  engine {engine_s} CPU {engine_cpu_s}\n  run {row['run_s']} CPU {run_cpu_s}\n  {row['stages']}",
        flush=True,
    )
    return row


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "overhead.json")
    parser.set_defaults(repeats=3)
    parser.add_argument("--n", type=int, default=20_000, help="texts (default 20000)")
    parser.add_argument("--precisions", nargs="+", default=["int8", "fp32"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "texts.jsonl"
        texts = write_texts(source, options.n)
        rows = [compare(precision, source, texts, options) for precision in options.precisions]
    question = f"MiniLM, {options.n} texts of mixed length: a run into a store against the bare engine"
    options.json.write_text(json.dumps({"question": question, "machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
