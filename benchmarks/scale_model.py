"""From costs of an item to 10^11 items: the simulated half of `scale_study.py`. Pure functions of measured figures."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np

SHARD_ROWS, DIM, FILES = 65_536, 384, 3
WEEK_H = 168.0
NODE_CORES = 16

# Assumed, not measured.
GPU_IMAGES_S = 14_000.0
"""ViT-B/16 at bf16 on one H200: the project's target, no result of it is in `results/`."""
MTBF_H = {"reserved": 50_000.0, "spot": 20.0}
"""Hours of a node between losses: 419 in 54 days of 16,384 GPUs (Llama 3), and one spot machine in twenty an hour."""
BACK_S = 300.0
"""Until another node is there and has loaded the model."""
PUT_USD, LIST_USD, LIST_S, LISTED = 5e-6, 5e-6, 0.1, 1000
"""Of one request to an object store: its price, the seconds a page of a listing takes, and the names on it."""
RAM_GB = 256
PROBED, CODE_NS = 18, 0.085
"""Lists that a search of 5 M rows reads for recall@10 0.95, and ns a byte of codes: measured, `index_scale.json` and
`index/tuning.py`; taken to be the same for more rows, which is optimistic."""

FIND_BEFORE_US = 4.38 / 5
"""Measured: a look-up in each of 5 runs of up to 4 million entries, before runs were merged without limit."""


@dataclass(frozen=True)
class Job:
    """What is embedded: items/s of a node, and items that one of its workers has under way."""

    name: str
    node_rate: float
    under_way: int
    basis: str


def embedding(job: Job, items: float, coordinate_us: float) -> dict[str, Any]:
    """Nodes for a week, and what one coordinator makes of it."""
    node_hours = items / job.node_rate / 3600
    nodes = int(np.ceil(node_hours / WEEK_H))
    coordinator_h = items * coordinate_us / 1e6 / 3600
    return {
        "job": job.name,
        "items": items,
        "node_hours": node_hours,
        "nodes": nodes,
        "coordinator_h": coordinator_h,
        "nodes_of_one": 1e6 / coordinate_us / job.node_rate,
        "stores": int(np.ceil(coordinator_h / WEEK_H)),
    }


def files(items: float, row_bytes: float, segment_bytes_per_shard: float, open_s_per_shard: float) -> dict[str, Any]:
    """Objects, the manifest, and what listing them would take if anything did."""
    shards = items / SHARD_ROWS
    objects = FILES * shards
    return {
        "items": items,
        "shards": shards,
        "objects": objects,
        "store_tb": items * row_bytes / 1e12,
        "segments_mb": shards * segment_bytes_per_shard / 1e6,
        "open_s": shards * open_s_per_shard,
        "put_usd": objects * PUT_USD,
        "list_s": objects / LISTED * LIST_S,
        "source_list_h": items / LISTED * LIST_S / 3600,
        "source_list_usd": items / LISTED * LIST_USD,
    }


def known(rows: float, cost: dict[str, float]) -> dict[str, Any]:
    """What telling new contents from old ones takes in one store of so many rows."""
    runs = np.log2(rows / (1 << 14)) / 2  # every second size is there, on average
    return {
        "rows": rows,
        "runs": runs,
        "find_us": cost["find_us_per_run"] * runs,
        "find_before_us": FIND_BEFORE_US * rows / (1 << 22),
        "scratch_gb": rows * (24 + 8 + cost["key_length"]) / 1e9,
        "resume_h": rows * cost["resume_us"] / 3.6e9,
        "keys_gb": rows * cost["key_bytes"] / 1e9,
        "keys_sort_h": rows * cost["sort_us"] * np.log2(rows) / np.log2(1e7) / 3.6e9,
    }


def index(rows: float, cost: dict[str, float], most_lists: int) -> dict[str, Any]:
    """Core hours, lists, and memory by what is kept of a vector; `most_lists` None: as many as rows call for."""
    wanted = 4 * isqrt(int(rows))
    lists = min(wanted, most_lists) if most_lists else wanted
    add_us = cost["add_us_fixed"] + cost["add_us_per_list"] * lists
    train_h = 10 * 64 * lists * cost["add_us_per_list"] * lists / 3.6e9
    return {
        "rows": rows,
        "lists": lists,
        "rows_a_list": rows / lists,
        "train_core_h": train_h,
        "add_core_h": rows * add_us / 3.6e9,
        "merge_h": rows * cost["merge_us"] / 3.6e9,
        "search_ms": PROBED * (rows / lists) * 48 * CODE_NS / 1e6 + lists * cost["add_us_per_list"] / 1e3 + 0.05,
    }


TIERS = {
    "float32 (exact)": 4 * DIM,
    "4-bit codes + float16": 48 + 8 + 2 * DIM,
    "4-bit codes + int8": 48 + 8 + DIM,
    "4-bit codes alone": 48 + 8,
    "signs": DIM // 8,
    "keys of 17 bytes": 25,
}
"""Bytes a row of width 384; of the keys those that stay in memory where vectors are mapped."""


def failures(job: Job, items: float, nodes: int, kind: str, resume_us: float, runs: int = 200) -> dict[str, Any]:
    """Play a run of one store `runs` times: a lost worker repeats what it had under way, a lost coordinator reads on.

    The coordinator is one node more, that loses the shard it has begun and the time of reading all hashes again.
    """
    random = np.random.default_rng(0)
    quiet_h = items / (job.node_rate * nodes) / 3600
    repeated_s = job.under_way / 2 / job.node_rate + BACK_S
    extra, lost_workers, lost_coordinators = [], [], []
    for _ in range(runs):
        workers = random.poisson(nodes * quiet_h / MTBF_H[kind])
        hours, done = workers * repeated_s / 3600 / nodes, 0.0
        coordinators = 0
        while (left := quiet_h - done) > 0 and coordinators < 1000:
            until = random.exponential(MTBF_H[kind])
            if until >= left:
                break
            done += until
            coordinators += 1
            begun = SHARD_ROWS / 2 / (job.node_rate * nodes)
            hours += (begun + BACK_S + items * done / quiet_h * resume_us / 1e6) / 3600
        extra.append(100 * hours / quiet_h)
        lost_workers.append(workers)
        lost_coordinators.append(coordinators)
    return {
        "job": job.name,
        "items": items,
        "nodes": nodes,
        "kind": kind,
        "quiet_h": quiet_h,
        "lost_workers": float(np.mean(lost_workers)),
        "lost_coordinators": float(np.mean(lost_coordinators)),
        "extra_percent": float(np.mean(extra)),
        "extra_percent_p95": float(np.percentile(extra, 95)),
    }
