"""Where does today's design break on the way to 10^11 items?

    python benchmarks/scale_study.py [--simulate]

Measures what an item costs at each stage and how that grows (`scale_measure.py`; the largest run takes half a minute),
takes the rest from `results/`, simulates 10^9 to 10^11 items (`scale_model.py`), writes `results/scale_study.json` and
fills the tables of `scale_study.md`. With --simulate the measured figures are those of the last time.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import scale_model as model
from harness import RESULTS, arguments, machine

DOCUMENT = Path(__file__).with_suffix(".md")
Figures = dict[str, Any]


def measure() -> Figures:
    """All measurements, each printed when it is done."""
    import scale_measure as stages
    from memory import text_extractor

    found: Figures = {"machine": machine()}
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)

        def note(name: str, figures: Figures) -> None:
            found.setdefault(name, []).append(figures)
            print(name, figures, flush=True)

        for rows in (10**4, 10**5, 10**6):
            note("writing", stages.writing(scratch / str(rows), rows))
        for rows in (10**4, 10**5, 10**6, 10**7):
            note("looking_up", stages.looking_up(rows))
            note("deduplicating", stages.deduplicating(scratch, rows))
        for entries in (1 << 22, 1 << 25, 1 << 27):
            note("searching", stages.searching(entries))
        for lists, rows in ((1000, 40_000), (4000, 40_000), (16_000, 40_000)):
            note("indexing", stages.indexing(lists, rows))
        note("coordinating", stages.coordinating(text_extractor(scratch), scratch / "c", (20_000, 120_000)))
    return found


def result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def rate(name: str, engine: str, unit: str) -> float:
    return float(next(row[unit] for row in result(name)["rows"] if row["engine"] == engine))


def costs(found: Figures) -> Figures:
    """Of an item in microseconds of a core, and what follows from that for a node of 16."""
    line, last = found["indexing"], {name: rows[-1] for name, rows in found.items() if isinstance(rows, list)}
    per_list = (line[-1]["add_us"] - line[0]["add_us"]) / (line[-1]["lists"] - line[0]["lists"])
    spread = result("several_processes")["versus"][0]["ratio"] / 2
    text_us, image_us = (
        2e6 / rate("text_cpu", "coldpress int8, to a store", "texts/s"),
        2e6 / rate("vit_cpu", "coldpress int8", "images/s"),
    )
    return {
        "text_us": text_us,
        "image_us": image_us,
        "decode_us": 1e6 / rate("image_decode", "coldpress, bicubic, with hashes", "images/s"),
        "two_process_efficiency": spread,
        "text_node_rate": model.NODE_CORES * spread * 1e6 / text_us,
        "coordinate_us": last["coordinating"]["coordinate_us"],
        "write_us": last["writing"]["write_us"],
        "row_bytes": last["writing"]["bytes_per_row"],
        "resume_us": last["writing"]["resume_us"],
        "add_us": last["deduplicating"]["add_us"],
        "find_us_per_run": last["searching"]["find_us"],
        "key_bytes": last["looking_up"]["key_bytes"],
        "key_length": 17,
        "sort_us": 1e6 * last["looking_up"]["sort_s"] / last["looking_up"]["rows"],
        "add_us_per_list": per_list,
        "add_us_fixed": line[0]["add_us"] - per_list * line[0]["lists"] + line[0]["exact_us"],
        "merge_us": line[0]["merge_us"],
    }


def simulate(cost: Figures) -> Figures:
    """Everything at 10^9 to 10^11."""
    shards = result("many_shards")["rows"][-1]
    texts = model.Job("texts, MiniLM int8, nodes of 16 cores", cost["text_node_rate"], 64 * 256, "measured, 2 cores")
    photos = model.Job("photos, ViT-B/16, one H200 a node", model.GPU_IMAGES_S, 8 * 256, "assumed")
    sizes, jobs = (1e9, 1e10, 1e11), (texts, photos)
    nodes = [model.embedding(job, items, cost["coordinate_us"]) for job in jobs for items in sizes]
    most = result("index_scale")["rows"][0]["settings"]["nlist"]
    return {
        "jobs": [asdict(job) for job in jobs],
        "nodes": nodes,
        "files": [
            model.files(
                items,
                cost["row_bytes"],
                shards["segment_bytes"] / shards["shards"],
                shards["open_s"] / shards["shards"],
            )
            for items in sizes
        ],
        "known": [model.known(rows, cost) for rows in (1e7, 1e8, *sizes)],
        "index": [model.index(rows, cost, lists) for rows in (1e7, 1e8, *sizes) for lists in (most, 0)],
        "memory": [{"tier": tier, "bytes": size} for tier, size in model.TIERS.items()],
        "failures": [
            model.failures(job, items, max(1, min(row["nodes"], int(row["nodes_of_one"]))), kind, cost["resume_us"])
            for row, job, items in zip(nodes, [job for job in jobs for _ in sizes], sizes * 2, strict=True)
            if items < 1e11
            for kind in model.MTBF_H
        ],
    }


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(shown(cell) for cell in line) + " |" for line in lines)


def shown(value: object) -> str:
    if not isinstance(value, int | float):
        return str(value)
    if value >= 1e6 and abs(value / 10 ** (len(str(int(value))) - 1) - 1) < 1e-9:
        return f"10^{len(str(int(value))) - 1}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def tables(found: Figures, cost: Figures, more: Figures) -> dict[str, str]:
    """By the name of their place in the document."""

    def of(figures: Sequence[Figures], /, **columns: str) -> str:
        return table(list(columns.values()), [[row[name] for name in columns] for row in figures])

    stages = [
        ("embed a text, MiniLM int8, to a store", cost["text_us"], "results/text_cpu.json, x 2 cores"),
        ("embed a photo, ViT-B/16 int8", cost["image_us"], "results/vit_cpu.json, x 2 cores"),
        ("decode and resize a photo of 109 KB", cost["decode_us"], "results/image_decode.json"),
        ("coordinate: read, send, receive, decide, write", cost["coordinate_us"], "scale_measure.py, 120,000 texts"),
        ("of it: write a row of 384 float16", cost["write_us"], "scale_measure.py, 10^6 rows"),
        ("of it: note a content as known", cost["add_us"], "scale_measure.py, 10^7"),
        ("read a row's hash and key again, on resuming", cost["resume_us"], "scale_measure.py, 10^6 rows"),
        (
            "add a row to an index of 1,000 lists, and judge",
            found["indexing"][0]["add_us"] + found["indexing"][0]["exact_us"],
            "scale_measure.py, 40,000 rows",
        ),
        ("put a row's entry behind those of another part", cost["merge_us"], "scale_measure.py, 40,000 rows"),
    ]
    growth = [
        [
            rows["rows"],
            rows["key_bytes"],
            rows["sort_s"],
            rows["find_us"],
            known["add_us"],
            known["find_us"],
            known["runs"],
        ]
        for rows, known in zip(found["looking_up"], found["deduplicating"], strict=True)
    ]
    return {
        "stages": table(["stage", "us of a core (measured)", "from"], stages),
        "writing": of(
            found["writing"],
            rows="rows (measured)",
            write_us="write, us a row",
            bytes_per_row="bytes a row",
            manifest_bytes="manifest, bytes",
            resume_us="resume, us a row",
        ),
        "shards": of(
            result("many_shards")["rows"],
            shards="shards (measured)",
            manifest_bytes="manifest, bytes",
            segment_bytes="segments, bytes",
            open_s="open, s",
            writer_start_s="writer, s",
            commit_s="commit, s",
        ),
        "growth": table(
            [
                "keys or contents (measured)",
                "bytes a key",
                "sort keys once, s",
                "find a key, us",
                "add a content, us",
                "find a content, us",
                "sorted runs",
            ],
            growth,
        ),
        "indexing": of(
            found["indexing"],
            lists="lists (measured)",
            add_us="add, us a row",
            exact_us="exact neighbours of 1,000 queries, us a row",
            merge_us="put together, us a row",
            part_bytes="part, bytes a row",
        ),
        "nodes": of(
            more["nodes"],
            job="job (simulated)",
            items="items",
            node_hours="node hours",
            nodes="nodes for a week",
            coordinator_h="hours of one coordinator",
            nodes_of_one="nodes that keep one busy",
            stores="stores for a week",
        ),
        "files": of(
            more["files"],
            items="items (simulated)",
            shards="shards",
            objects="objects",
            store_tb="TB",
            segments_mb="segments, MB",
            open_s="open, s",
            put_usd="uploads, $",
            list_s="list the store, s",
            source_list_h="list a source of single files, h",
            source_list_usd="that, $",
        ),
        "known": of(
            more["known"],
            rows="rows in one store (simulated)",
            runs="sorted runs",
            find_us="find a content, us",
            find_before_us="with runs of 4 million",
            scratch_gb="scratch, GB",
            resume_h="resume, h",
            keys_gb="keys sorted in memory, GB",
            keys_sort_h="sort them, h",
        ),
        "index": of(
            more["index"],
            rows="rows (simulated)",
            lists="lists",
            rows_a_list="rows a list",
            train_core_h="train, core h",
            add_core_h="add, core h",
            merge_h="put together, h",
            search_ms="one query, ms",
        ),
        "memory": table(
            [
                "tier (arithmetic)",
                "bytes a row",
                "10^8, GB",
                "10^9, GB",
                "10^10, GB",
                "10^11, GB",
                f"nodes of {model.RAM_GB} GB for 10^10",
            ],
            [
                [
                    row["tier"],
                    row["bytes"],
                    *(row["bytes"] * n / 1e9 for n in (1e8, 1e9, 1e10, 1e11)),
                    -(-row["bytes"] * 1e10 // (0.8e9 * model.RAM_GB)),
                ]
                for row in more["memory"]
            ],
        ),
        "failures": of(
            more["failures"],
            job="job (simulated)",
            items="items",
            nodes="nodes",
            kind="nodes are",
            quiet_h="hours without",
            lost_workers="workers lost",
            lost_coordinators="coordinators lost",
            extra_percent="time repeated, %",
            extra_percent_p95="in the worst of 20, %",
        ),
    }


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "scale_study.json")
    parser.add_argument("--simulate", action="store_true")
    options = parser.parse_args()
    found = result("scale_study")["measured"] if options.simulate else measure()
    cost = costs(found)
    more = simulate(cost)
    options.json.write_text(json.dumps({"measured": found, "costs": cost, "simulated": more}, indent=1) + "\n")
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, filled in tables(found, cost, more).items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        assert place.search(text), f"no place for {name}"
        text = place.sub(lambda match, filled=filled: f"{match[1]}{filled}\n{match[2]}", text)
    DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
