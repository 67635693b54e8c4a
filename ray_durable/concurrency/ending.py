"""What follows when a coroutine's function has ended before the tasks that it started: what `asyncio.run` does.

They are cancelled, and run to their ends; only then has the coroutine ended, with the outcome that its function had. A
new main branch does that, whose frames hold the outcome: a host may die meanwhile, or the coroutine move.
"""

from __future__ import annotations

from typing import Any

from ray_durable.compiler import durable
from ray_durable.concurrency.tasks import task_of
from ray_durable.concurrency.waiting import wait
from ray_durable.runner import Branch, Coroutine
from ray_durable.running import entered

__all__ = ["wind_up"]


def wind_up(coroutine: Coroutine, succeeded: bool, value: Any) -> Branch | None:
    """The branch that is to end this coroutine in the place of its main one, which has; None when there is nothing left
    to wait for."""
    if not coroutine.others:
        return None
    main = coroutine.main = Branch(coroutine, 0, end_with(succeeded, value))
    main.at, main.derived = coroutine.seq, 0
    return main


@durable
async def end_with(succeeded: bool, value: Any) -> Any:
    """Cancel what still runs, wait for it, and end as the main branch did."""
    tasks = left_over()
    for task in tasks:
        task.cancel()
    await wait(tasks)
    if succeeded:
        return value
    raise value


def left_over() -> list[Any]:
    """The tasks of all branches but the main one."""
    coroutine: Any = entered.identity
    return [task_of(branch) for branch in coroutine.others.values()]
