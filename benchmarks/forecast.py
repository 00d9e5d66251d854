"""How close is `--plan` to the run that follows?

    python benchmarks/forecast.py [--texts 12000] [--photos 3000]

Three jobs: texts of all lengths (MiniLM int8), photos of one kind (MobileNetV2), and a folder of photos and thumbnails
of very different sizes in which every third file is a copy. Forecast and run are of the same options; what is compared
are the seconds of the summary, which do not count the loading of the model.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from harness import arguments, write

from coldpress import Extractor
from coldpress.data import open_source
from coldpress.forecast import forecast

SHARED = Path(__file__).parents[2] / "shared/data"


def write_texts(path: Path, count: int) -> None:
    texts = []
    for file in sorted((SHARED / "text").rglob("*.jsonl")):
        with file.open(encoding="utf-8") as rows:
            texts += [value for line in rows for value in json.loads(line).values() if len(str(value)) > 20]
    lines = [" ".join(str(text).split()) for text in itertools.islice(itertools.cycle(texts), count)]
    path.write_text("".join(f"{line} ({i})\n" for i, line in enumerate(lines)), encoding="utf-8")


def write_photos(folder: Path, count: int, *, copies: bool) -> None:
    """Each with its number in a comment, unless it is a copy of the one before."""
    kinds = [sorted((SHARED / "imagenet_sample/images").iterdir())]
    if copies:
        kinds.append(sorted((SHARED / "hymenoptera").rglob("*.jp*g"))[:300])
    originals = [path.read_bytes() for kind in kinds for path in kind]
    folder.mkdir()
    for i in range(count):
        path = folder / f"{i:06d}.jpg"
        if copies and i % 3 == 2:
            shutil.copyfile(folder / f"{i - 1:06d}.jpg", path)
        else:
            base = originals[i * 7 % len(originals)]
            path.write_bytes(base[:2] + b"\xff\xfe\x00\x0b" + b"%09d" % i + base[2:])


def job(name: str, extractor: Extractor, source: Path, out: Path, **options: Any) -> dict[str, Any]:
    opened = open_source(source, modality=extractor.modality)
    found = forecast(
        lambda place, items, **more: extractor.run(place, items, **options, **more), opened, extractor.modality
    )
    summary = extractor.run(out, source, **options)
    row = {
        "job": name,
        "inputs": summary.inputs,
        "distinct": summary.computed,
        "forecast_distinct": found.distinct,
        "forecast_s": found.seconds,
        "run_s": summary.seconds,
        "ratio": found.seconds / summary.seconds,
        "calibration_s": found.calibration_s,
        "forecast_store_bytes": found.store_bytes,
        "store_bytes": sum(file.stat().st_size for file in out.rglob("part-*")),
    }
    print({key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
    return row


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "forecast.json")
    parser.add_argument("--texts", type=int, default=12_000)
    parser.add_argument("--photos", type=int, default=3_000)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        write_texts(base / "texts.txt", options.texts)
        write_photos(base / "photos", options.photos, copies=False)
        write_photos(base / "mixed", options.photos, copies=True)
        minilm = Extractor("all-MiniLM-L6-v2", device="cpu")
        mobilenet = Extractor(SHARED / "models/mobilenet_v2_1.0_224_imagenet", device="cpu", precision="fp32")
        rows = [
            job("texts, MiniLM, precision auto", minilm, base / "texts.txt", base / "1"),
            job("photos, MobileNetV2 fp32", mobilenet, base / "photos", base / "2"),
            job("mixed sizes, a third copies, MobileNetV2 fp32", mobilenet, base / "mixed", base / "3"),
        ]
    write(options.json, question="The forecast of --plan beside the run", rows=rows)


if __name__ == "__main__":
    main()
