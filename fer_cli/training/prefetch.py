"""Batches prepared ahead by threads, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


@contextmanager
def ahead(make: Callable[[Item], Made], items: Sequence[Item], workers: int) -> Iterator[Iterator[Made]]:
    """Yield an iterator over ``make(item)`` in the order of the items; leaving the block stops the threads.

    Args:
        make: a function of the item alone; with workers, several run at once.
        items: what it is called with.
        workers: threads, each of which is at most one batch further than it must; 0 makes each when it is asked for.
    """
    if not workers:
        yield map(make, items)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="fer-batch") as pool:
        waiting: deque[Future[Made]] = deque()

        def in_order() -> Iterator[Made]:
            rest = iter(items)
            for item in rest:
                waiting.append(pool.submit(make, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        try:
            yield in_order()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
