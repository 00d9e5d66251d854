"""How much faster are two processes than one that has a single core, and what does Ray cost beside our own?

    python benchmarks/several_processes.py [--photos 900] [--processes 2] [--repeats 2]

Whole runs of `embed`, from files to a committed store, start of the workers and certificate included: ViT-S/16 with
random weights in fp32 over real photos (each with a number of its own in a comment, so that none is a duplicate). The
stores are compared byte for byte. The last engine is the baseline: one thread that computes, one that decodes, on one
core.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import torch
from harness import Engine, arguments, compare, report, versus
from image_peers import PROCESSOR
from transformers import ViTConfig, ViTModel

from coldpress import Extractor, Progress
from coldpress.distributed import embed

PHOTOS = Path(__file__).parents[2] / "shared/data/imagenet_sample/images"


def write_model(directory: Path) -> None:
    torch.manual_seed(0)
    config = ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536)
    ViTModel(config, add_pooling_layer=False).eval().save_pretrained(directory)
    (directory / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))


def write_photos(folder: Path, number: int) -> None:
    folder.mkdir()
    originals = [path.read_bytes() for path in sorted(PHOTOS.rglob("*.[jJ][pP]*[gG]"))]
    for i in range(number):
        base = originals[i % len(originals)]
        (folder / f"{i:06d}.jpg").write_bytes(base[:2] + b"\xff\xfe\x00\x0b" + b"%09d" % i + base[2:])


def contents(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}


def on_one_core(run: Callable[[], object]) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        run()
    finally:
        os.sched_setaffinity(0, before)


class Steady:
    """The rate over the last two thirds of each run: without its start and its certificate."""

    def __init__(self, total: int) -> None:
        self.rates: dict[str, list[float]] = {"steady_images_per_s": []}
        self._total, self._first = total, None

    def __enter__(self) -> Callable[[Progress], None]:
        self._first = None
        return self._report

    def __exit__(self, *_: object) -> None:
        done, seconds = self._first
        self.rates["steady_images_per_s"].append((self._total - done) / (time.perf_counter() - seconds))

    def _report(self, progress: Progress) -> None:
        if self._first is None and progress.done >= self._total // 3:
            self._first = (progress.done, time.perf_counter())


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "several_processes.json")
    parser.add_argument("--photos", type=int, default=900)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        base, numbers, stores = Path(scratch), count(), {}
        write_model(base / "model")
        write_photos(base / "photos", options.photos)
        extractor = Extractor(base / "model", device="cpu", precision="fp32", threads=1)

        def into(name: str) -> Path:
            stores[name] = base / f"store-{next(numbers)}"
            return stores[name]

        one, own, ray_ = (Steady(options.photos) for _ in range(3))
        several_devices = {"devices": f"{options.processes}xcpu", "threads": 1, "shard_rows": 256}

        def alone() -> None:
            with one as on_progress:
                more = {"workers": 1, "shard_rows": 256, "on_progress": on_progress}
                extractor.run(into("one process on one core"), base / "photos", **more)

        def several() -> None:
            with own as on_progress:
                more = {**several_devices, "on_progress": on_progress}
                embed(base / "photos", extractor, into(f"{options.processes} processes"), **more)

        def on_ray() -> None:
            with ray_ as on_progress:
                more = {**several_devices, "ray": "local", "on_progress": on_progress}
                embed(base / "photos", extractor, into(f"{options.processes} Ray actors"), **more)

        def with_ray() -> float:
            import ray

            begin = time.perf_counter()
            store = 200 << 20
            ray.init("local", num_cpus=options.processes, object_store_memory=store, include_dashboard=False)
            return time.perf_counter() - begin

        start_s = with_ray()
        engines = [
            Engine(f"{options.processes} Ray actors", on_ray, ray_.rates),
            Engine(f"{options.processes} processes", several, own.rates),
            Engine("one process on one core", lambda: on_one_core(alone), one.rates),
        ]
        extractor.embed([next((base / "photos").iterdir())])
        rows = compare(engines, options.photos, "images/s", options.repeats, warm=False)
        first, *others = (contents(store) for store in stores.values())
        assert all(other == first for other in others), "the stores differ"
    pairs = [
        versus(rows, f"{options.processes} processes", "one process on one core"),
        versus(rows, f"{options.processes} Ray actors", f"{options.processes} processes"),
    ]
    question = f"ViT-S/16 fp32, {options.photos} photos, whole runs: images per second, ratio to one core"
    more = {"ray_init_s": start_s, "stores": "equal, byte for byte"}
    report(question, rows, "images/s", options.json, images=options.photos, versus=pairs, **more)


if __name__ == "__main__":
    main()
