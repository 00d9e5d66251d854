"""A run keeps as many threads busy as it was given, whatever other libraries of the process have started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coldpress.engine.options import default_workers

BUSY = 0.2
"""Share of the processor time of a run that makes a thread one of those that do the work."""

CODE = """
import json, sys, tempfile
from pathlib import Path

import faiss, numpy as np
from sklearn.cluster import KMeans
from coldpress import Extractor
from coldpress.data import MemorySource

points = np.random.default_rng(0).normal(size=(4000, 64)).astype(np.float32)
index = faiss.IndexFlatL2(64)
index.add(points)
index.search(points, 1)
KMeans(8, n_init=1, random_state=0).fit(points)


def ticks():
    spent = {}
    for task in Path("/proc/self/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        spent[task.name] = int(fields[11]) + int(fields[12])
    return spent


texts = [f"{i}: some twenty words about nothing in particular, so that there is work to do" for i in range(1500)]
extractor = Extractor("all-MiniLM-L6-v2", device="cpu", precision="fp32", threads=int(sys.argv[1]))
extractor.embed(texts[:200])
before = ticks()
with tempfile.TemporaryDirectory() as out:
    extractor.run(out + "/store", MemorySource(texts, "text"))
print(json.dumps([after - before.get(task, 0) for task, after in ticks().items()]))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the system does not tell the time of a thread")
@pytest.mark.parametrize("threads", [1, 2])
def test_no_more_threads_are_busy_than_asked_for(minilm: Path, threads: int) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, str(threads)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    spent = json.loads(done.stdout)
    busy = [ticks for ticks in spent if ticks > BUSY * sum(spent)]
    assert 1 <= len(busy) <= threads
    assert sum(busy) > 0.7 * sum(spent)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not say which cores a process has")
def test_photos_are_prepared_by_as_many_threads_as_the_process_has_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as the machine has: each prepares chunks ahead, so that 64 threads on two cores take gigabytes."""
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {4, 5})
    assert default_workers("image") == 2
