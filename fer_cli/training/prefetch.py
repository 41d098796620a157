"""Batches loaded ahead by threads, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


@contextmanager
def prefetch(load: Callable[[Item], Loaded], items: Sequence[Item], workers: int) -> Iterator[Iterator[Loaded]]:
    """Yield an iterator over ``load(item)`` in the order of the items; leaving the block stops the threads.

    Args:
        load: a function of the item alone; with workers, several run at once.
        items: what it is called with.
        workers: threads, each of which is at most one batch further than it must; 0 makes each when it is asked for.
    """
    if not workers:
        yield map(load, items)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="fer-batch") as pool:
        waiting: deque[Future[Loaded]] = deque()

        def in_order() -> Iterator[Loaded]:
            rest = iter(items)
            for item in rest:
                waiting.append(pool.submit(load, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        try:
            yield in_order()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
