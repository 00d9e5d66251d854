"""What `coldpress serve` does under more load than it can carry, and what batching across requests brings.

Two questions, over ``POST /embed`` with one text a request. The generator runs in a process of its own on the same
machine, so that it takes a part of the cores from the server:

- throughput of many connections, with batches of the default size and one by one (``--max-batch 1``), in turns, of
  queries (the first eight words of documentation paragraphs) and of whole paragraphs;
- a minute of several times the load that the server can carry: statuses, latencies, memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import arguments, write
from texts import documentation_paragraphs

MODEL = "all-MiniLM-L6-v2"
PARTS = ("queries", "paragraphs", "saturation")
CONNECTIONS = 64
PAUSE_S = 0.5  # of a client that was refused: half of the least that it is asked to wait
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Server:
    port: int
    pid: int

    def memory_mb(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found[1]) / 1024 if found else 0.0


@contextmanager
def serving(precision: str, *options: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "coldpress", "serve", "--model", MODEL, "--precision", precision, "--port", "0"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "http://" in line)
        port = re.search(r":(\d+);", line)
        assert port is not None
        yield Server(int(port[1]), process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


async def client(port: int, requests: list[bytes], first: int, end: float, seen: list[tuple[int, float]]) -> None:
    """One connection that asks as soon as it was answered, until `end`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = first
    while time.monotonic() < end:
        begun = time.perf_counter()
        writer.write(requests[number % len(requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        status = int(head[9:12])
        seen.append((status, time.perf_counter() - begun))
        number += 1
        if status != 200:
            await asyncio.sleep(PAUSE_S)
    writer.close()


def generate(port: int, kind: str, connections: int, seconds: float) -> None:
    """In a process of its own: print what the answers were, as JSON."""
    texts = documentation_paragraphs(2000)
    if kind == "queries":
        texts = [" ".join(text.split()[:8]) for text in texts]
    bodies = [json.dumps({"inputs": text}).encode() for text in texts]
    head = "POST /embed HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    requests = [head.format(len(body)).encode() + body for body in bodies]
    seen: list[tuple[int, float]] = []

    async def run() -> None:
        end = time.monotonic() + seconds
        await asyncio.gather(*(client(port, requests, 31 * i, end, seen) for i in range(connections)))

    begun = time.perf_counter()
    asyncio.run(run())
    took = time.perf_counter() - begun
    by_status = {status: [s for got, s in seen if got == status] for status in sorted({got for got, _ in seen})}
    answers = {status: _latency(times) for status, times in by_status.items()}
    print(json.dumps({"seconds": took, "per_s": len(by_status.get(200, ())) / took, "answers": answers}))


def _latency(times: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100) if len(times) > 1 else times * 99
    shown = {f"p{p}_ms": round(1e3 * cuts[p - 1], 1) for p in PERCENTILES}
    return {"count": len(times), **shown, "max_ms": round(1e3 * max(times), 1)}


def load(server: Server, kind: str, connections: int, seconds: float) -> dict[str, Any]:
    command = [sys.executable, __file__, "--generate", str(server.port), kind, str(connections), str(seconds)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    memory = []
    while started.poll() is None:
        memory.append(round(server.memory_mb(), 1))
        time.sleep(1)
    assert started.stdout is not None
    third = max(1, len(memory) // 3)
    return {
        **json.loads(started.stdout.read()),
        "connections": connections,
        "memory_mb": {"first_third_max": max(memory[:third]), "last_third_max": max(memory[-third:])},
    }


def throughput(precision: str, kind: str, seconds: float, repeats: int) -> dict[str, Any]:
    """Texts a second, batched and one by one, in turns on two running servers."""
    rates: dict[str, list[float]] = {"batched": [], "one_by_one": []}
    with serving(precision) as batched, serving(precision, "--max-batch", "1") as single:
        for server in (batched, single):
            load(server, kind, CONNECTIONS, 2)
        for _ in range(repeats):
            for name, server in (("batched", batched), ("one_by_one", single)):
                rates[name].append(load(server, kind, CONNECTIONS, seconds)["per_s"])
    ratios = [a / b for a, b in zip(rates["batched"], rates["one_by_one"], strict=True)]
    median = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{kind}: {median['batched']:.0f}/s batched, {median['one_by_one']:.0f}/s one by one", end="", flush=True)
    print(f", {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}] times", flush=True)
    spread = {"ratio": statistics.median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios)}
    return {"connections": CONNECTIONS, "per_s": rates, **spread}


def saturation(precision: str, seconds: float, deadline_s: float) -> dict[str, Any]:
    """What becomes of requests that are several times too many."""
    with serving(precision, "--deadline", str(deadline_s)) as server:
        load(server, "paragraphs", CONNECTIONS, 3)
        result = {"deadline_s": deadline_s, **load(server, "paragraphs", 8 * CONNECTIONS, seconds)}
    for status, one in result["answers"].items():
        print(f"status {status}: {one}", flush=True)
    print(f"memory: {result['memory_mb']}", flush=True)
    return result


def main() -> None:
    parser = arguments(__doc__ or "", "serve_load.json")
    parser.add_argument("--generate", nargs=4, metavar=("PORT", "KIND", "CONNECTIONS", "SECONDS"))
    parser.add_argument("--seconds", type=float, default=60.0, help="of saturation")
    parser.add_argument("--rate-seconds", type=float, default=8.0, help="of each measurement of throughput")
    parser.add_argument("--precision", default="int8", help="of the model")
    parser.add_argument("--part", choices=("all", *PARTS), default="all", help="only this one, into the same file")
    given: argparse.Namespace = parser.parse_args()
    if given.generate:
        port, kind, connections, seconds = given.generate
        generate(int(port), kind, int(connections), float(seconds))
        return
    wanted = PARTS if given.part == "all" else (given.part,)
    figures: dict[str, Any] = (
        {} if given.part == "all" or not given.json.exists() else json.loads(given.json.read_text())
    )
    figures |= {"question": __doc__, "model": MODEL, "precision": given.precision}
    for part in wanted:
        if part == "saturation":
            figures[part] = saturation(given.precision, given.seconds, 2.0)
        else:
            figures[part] = throughput(given.precision, part, given.rate_seconds, given.repeats)
    write(given.json, **{name: value for name, value in figures.items() if name != "machine"})


if __name__ == "__main__":
    main()
