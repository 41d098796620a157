"""Making an artifact: is it there already, resume or start afresh, share the work among processes, commit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from fer_cli.artifacts.result import Result
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.work import Plan, Work
from fer_cli.core.distributed import Ranks, barrier, broadcast_object, process_group


def run(
    store: Store,
    plan: Plan,
    produce: Callable[[Work], None],
    *,
    ranks: Ranks,
    force: bool,
    restart: bool | None = None,
) -> Result:
    """Return the artifact of a plan: the one that is there already, or what ``produce`` makes and commits.

    Every process calls this with an equal plan, and ``produce`` runs in all of them, each with the same directory. The
    first process holds the lock and commits; the others leave ``work.commit`` to it. What an interrupted call left in
    the directory is there again at the next one.

    Args:
        store: where artifacts are.
        plan: what decides the artifact.
        produce: does the work in ``work.directory``, and commits it in the first process.
        ranks: the processes that share the work.
        force: make it although it is there.
        restart: forget what an interrupted call left; the same as ``force`` where it is None.
    """
    with process_group(ranks), ExitStack() as stack:
        work: Work | None = None
        if ranks.rank == 0:
            afresh = force if restart is None else restart
            work = stack.enter_context(store.make(plan, force=force, resumable=True, restart=afresh))
        directory = broadcast_object(None if work is None or work.committed else work.directory, ranks)
        if directory is None:
            return Result(store.open(store.target(plan)), up_to_date=True)
        produce(work or Work(plan, directory, store.target(plan)))
        barrier(ranks)
        return Result(store.open(store.target(plan)), up_to_date=False)
