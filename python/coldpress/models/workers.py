"""Threads that run torch with one thread each: one engine per core."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch


def single_threaded_workers(count: int) -> ThreadPoolExecutor:
    """Start `count` threads whose torch operations use one thread each, and leave the caller's setting alone.

    torch keeps a process-wide default beside each thread's own count, and setting one sets both. So all workers have
    to start, and read their count once, before the default is put back; the barrier sees to that, for an executor
    starts a thread only where none is idle.
    """
    before, all_started = torch.get_num_threads(), Barrier(count)

    def start() -> None:
        all_started.wait()
        torch.get_num_threads()

    workers = ThreadPoolExecutor(count, "coldpress-compute", initializer=torch.set_num_threads, initargs=(1,))
    for done in [workers.submit(start) for _ in range(count)]:
        done.result()
    torch.set_num_threads(before)
    return workers
