"""What the queue promises, with a function in the place of the network: who is computed, refused, and told why."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from coldpress.serve import batching
from coldpress.serve.batching import Batch, BatchQueue, ItemFailed
from coldpress.serve.refusals import Refused


@dataclass
class Engine:
    """Squares numbers, one batch at a time, while its gate is open; 13 is poison, and -1 its death."""

    gate: threading.Event = field(default_factory=threading.Event)
    batches: list[list[int]] = field(default_factory=list)
    dead: bool = False

    def __call__(self, items: Sequence[int]) -> np.ndarray[Any, Any]:
        assert self.gate.wait(10)
        self.batches.append(list(items))
        self.dead |= -1 in items
        if self.dead or 13 in items:
            raise RuntimeError("the engine coughs")
        rows = np.asarray(items, np.float32)[:, None] ** 2
        return np.where(rows == 49, np.nan, rows)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


@asynccontextmanager
async def queue_of(engine: Engine, seen: list[Batch] | None = None, **options: Any) -> AsyncIterator[BatchQueue[int]]:
    settings = {"canary": 1, "budget": 8, "capacity": 100, "patience_s": 100.0, "expiry_s": 100.0, **options}
    with ThreadPoolExecutor(1) as thread:
        queue = BatchQueue(engine, thread, on_batch=[].append if seen is None else seen.append, **settings)
        task = asyncio.create_task(queue.run())
        try:
            yield queue
        finally:
            engine.gate.set()
            task.cancel()


def ask(queue: BatchQueue[int], *items: int, costs: Sequence[int] | None = None) -> asyncio.Task[Any]:
    return asyncio.create_task(queue(items, costs or [1] * len(items)))


async def blocked(queue: BatchQueue[int], engine: Engine) -> asyncio.Task[Any]:
    """A request that holds the engine until its gate opens."""
    first = ask(queue, 0)
    while queue.waiting or not queue._busy_since:
        await asyncio.sleep(0.001)
    return first


def test_requests_are_computed_together_and_answered_apart() -> None:
    async def test() -> None:
        engine, seen = Engine(), []
        async with queue_of(engine, seen) as queue:
            first = await blocked(queue, engine)
            others = [ask(queue, 2), ask(queue, 3, 4), ask(queue, 5)]
            await asyncio.sleep(0)
            engine.gate.set()
            assert [(await other).ravel().tolist() for other in (first, *others)] == [[0], [4], [9, 16], [25]]
            assert engine.batches == [[0], [2, 3, 4, 5]]
            assert [(batch.items, batch.cost, len(batch.waits_s)) for batch in seen] == [(1, 1, 1), (4, 4, 4)]

    run(test)


def test_a_batch_keeps_to_its_budget_and_a_large_request_does_not_hold_up_small_ones() -> None:
    async def test() -> None:
        engine = Engine()
        async with queue_of(engine) as queue:
            first = await blocked(queue, engine)
            tasks = [ask(queue, *range(20, 40)), ask(queue, 1), ask(queue, 50, costs=[9]), ask(queue, 2)]
            await asyncio.sleep(0)
            engine.gate.set()
            await asyncio.gather(first, *tasks)
            assert (await tasks[0]).ravel().tolist() == [i * i for i in range(20, 40)]
            assert engine.batches == [[0], [*range(20, 28)], [1], [50], [2, *range(28, 35)], [*range(35, 40)]]

    run(test)


def test_a_poisonous_item_fails_alone() -> None:
    async def test() -> None:
        engine = Engine()
        async with queue_of(engine) as queue:
            first = await blocked(queue, engine)
            good, bad, infinite = ask(queue, 2, 3), ask(queue, 4, 13), ask(queue, 7)
            await asyncio.sleep(0)
            engine.gate.set()
            assert (await good).ravel().tolist() == [4, 9]
            for task, item, why in ((bad, 1, "coughs"), (infinite, 0, "NaN")):
                with pytest.raises(ItemFailed, match=why) as failed:
                    await task
                assert failed.value.item == item
            await first
            assert queue.alive
            assert queue.waiting == 0

    run(test)


def test_too_much_is_refused_at_once_and_says_when_to_come_back() -> None:
    async def test() -> None:
        engine = Engine()
        async with queue_of(engine, capacity=10) as queue:
            first = await blocked(queue, engine)
            waiting = ask(queue, *range(2, 7))
            await asyncio.sleep(0)
            with pytest.raises(Refused) as refused:
                await ask(queue, *range(20, 26))
            assert refused.value.status == 429
            assert int(refused.value.headers["retry-after"]) >= 1
            assert queue.waiting == 5
            engine.gate.set()
            await asyncio.gather(first, waiting)
            assert len(await ask(queue, *range(20, 50))) == 30  # more than may wait, but nobody does

    run(test)


def test_who_would_wait_too_long_is_refused_at_once() -> None:
    async def test() -> None:
        engine = Engine()
        async with queue_of(engine, patience_s=1e-9) as queue:
            engine.gate.set()
            await ask(queue, 2)  # from here on the rate is known
            engine.gate.clear()
            first = await blocked(queue, engine)
            second = ask(queue, 2)
            await asyncio.sleep(0)
            with pytest.raises(Refused, match="busy"):
                await ask(queue, 3)
            engine.gate.set()
            await asyncio.gather(first, second)

    run(test)


def test_who_gives_up_takes_what_waits_along() -> None:
    async def test() -> None:
        engine = Engine()
        async with queue_of(engine) as queue:
            first = await blocked(queue, engine)
            gone, stays = ask(queue, 2, 3), ask(queue, 4)
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.sleep(0)
            assert queue.waiting == 1
            engine.gate.set()
            await asyncio.gather(first, stays)
            assert engine.batches == [[0], [4]]

    run(test)


def test_a_dead_engine_is_noticed_sends_everybody_away_and_may_recover(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(batching, "REVIVE_S", 0.01)
        engine = Engine()
        async with queue_of(engine, budget=1) as queue:
            first = await blocked(queue, engine)
            killer, waiting = ask(queue, -1), ask(queue, 5)
            await asyncio.sleep(0)
            engine.gate.set()
            await first
            for task in (killer, waiting):
                with pytest.raises(Refused) as refused:
                    await task
                assert refused.value.status == 503
            assert not queue.alive
            with pytest.raises(Refused, match="cannot compute"):
                await ask(queue, 5)
            engine.dead = False
            while not queue.alive:
                await asyncio.sleep(0.01)
            assert (await ask(queue, 5)).tolist() == [[25]]

    run(test)


def test_an_engine_that_does_not_come_back_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        engine = Engine()
        async with queue_of(engine) as queue:
            first = await blocked(queue, engine)
            assert queue.alive
            monkeypatch.setattr(batching, "STALLED_S", 0.0)
            assert not queue.alive
            engine.gate.set()
            await first
            assert queue.alive

    run(test)


def test_a_small_request_is_let_in_where_a_large_one_is_not() -> None:
    async def test() -> None:
        engine = Engine()
        async with queue_of(engine, patience_s=0.5) as queue:
            first = await blocked(queue, engine)
            queue._rate = 20.0
            large = ask(queue, *range(20, 50))
            await asyncio.sleep(0)
            with pytest.raises(Refused, match="busy"):
                await ask(queue, *range(20, 50))
            small = ask(queue, 2)
            await asyncio.sleep(0)
            engine.gate.set()
            assert (await small).tolist() == [[4]]
            assert not large.done()
            await asyncio.gather(first, large)

    run(test)


def test_who_has_waited_for_nothing_is_sent_away_before_the_deadline() -> None:
    async def test() -> None:
        engine = Engine()
        async with queue_of(engine, expiry_s=0.02) as queue:
            first = await blocked(queue, engine)
            with pytest.raises(Refused) as refused:
                await ask(queue, 2)
            assert refused.value.status == 429
            engine.gate.set()
            assert (await first).tolist() == [[0]]  # was begun, so that it is answered

    run(test)
