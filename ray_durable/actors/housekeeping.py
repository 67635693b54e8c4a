"""Keeps a live log small while its host runs: compaction in a thread of its own, whenever enough has gathered.

It looks as soon as so much has been written that it may be due, however quickly that comes, and once a second besides:
what is live may have become less without anything being written."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable

from ray_durable.checkpoint.compaction import Policy
from ray_durable.checkpoint.janitor import Janitor
from ray_durable.checkpoint.log import Log
from ray_durable.config import Settings
from ray_durable.errors import FencedError, LogStoppedError, StoreError
from ray_durable.logs import EventLog

__all__ = ["keep_small"]

LOOK_EVERY_S = 1.0


async def keep_small(
    log: Log, settings: Settings, event_log: EventLog, released: Callable[[], dict[str, int]] = dict
) -> None:
    """Compact `log` for as long as it lives. `released`: coroutines that were sent away and are adopted there, with the
    epoch at which they are; what the log has forgotten is taken out of it. A failing store only postpones it; the log's
    own end ends it."""
    janitor = Janitor(log, Policy(retention_s=settings.retention_s))
    pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="janitor")
    loop = asyncio.get_running_loop()
    grown = asyncio.Event()

    def tell() -> None:
        loop.call_soon_threadsafe(grown.set)

    try:
        janitor.watch(tell)
        while log.error is None:
            try:
                await asyncio.wait_for(grown.wait(), LOOK_EVERY_S)
            except TimeoutError:
                pass
            grown.clear()
            due = janitor.is_due()
            if not due and not janitor.doomed:
                janitor.watch(tell)
                continue
            current = released()
            known = dict(current)  # the loop's, as this thread may not look at what changes in that one
            janitor.released = known.copy
            try:
                await loop.run_in_executor(pool, janitor.compact if due else janitor.clear)
            except StoreError as error:
                event_log.warning("compaction_postponed", error=str(error))
                await asyncio.sleep(LOOK_EVERY_S)
                janitor.watch(tell)
                continue
            for id, epoch in known.items() if due else ():
                if current.get(id) == epoch:
                    del current[id]
    except (FencedError, LogStoppedError):
        return
    finally:
        janitor.unwatch()
