"""How a coroutine ends on its host: once its tasks have, by its options run again instead, its outcome made durable."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ray_durable.actors.hosted import Hosted
from ray_durable.concurrency.ending import wind_up
from ray_durable.errors import CoroutineCancelled

if TYPE_CHECKING:
    from ray_durable.actors.engine import Engine

__all__ = ["raised", "returned"]


def returned(engine: Engine, hosted: Hosted, value: Any) -> None:
    """Its function has returned."""
    if not end_tasks(engine, hosted, True, value):
        engine.end(hosted, "completed", value)


def raised(engine: Engine, hosted: Hosted, error: BaseException) -> None:
    """Run it again from its last checkpoint if its options say so, else it has failed."""
    most, retries = hosted.header.max_retries, hosted.last is not None and hosted.header.retries(error)
    cancelled = isinstance(error, CoroutineCancelled | asyncio.CancelledError)
    if not cancelled and retries and (most < 0 or hosted.marks.retried < most):
        retry(engine, hosted)
    elif not end_tasks(engine, hosted, False, error):
        engine.end(hosted, "cancelled" if cancelled else "failed", error)


def end_tasks(engine: Engine, hosted: Hosted, succeeded: bool, value: Any) -> bool:
    """Have the tasks that its function has left running cancelled, as `asyncio.run` does. Whether there are any."""
    main = wind_up(hosted.coroutine, succeeded, value)
    if main is not None:
        engine.wake(main, None)
    return main is not None


def retry(engine: Engine, hosted: Hosted) -> None:
    """Run it again from its last checkpoint, once that is durable."""
    hosted.marks.retried += 1
    engine.tally.retried()
    engine.let_go_of_branches(hosted.coroutine)
    hosted.rewind(engine.log.chunks)
    coroutine = hosted.coroutine
    engine.after_commit(lambda: engine.begin(hosted) if coroutine.host is hosted else None)
