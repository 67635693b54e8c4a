"""A real engine over a real log, on a real event loop, without Ray."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any

from ray_durable import operations
from ray_durable.actors.code import CodeShelf
from ray_durable.actors.engine import Engine
from ray_durable.actors.facts import transfer_from
from ray_durable.actors.outcomes import Finished
from ray_durable.actors.tally import Tally
from ray_durable.actors.transfer import Header, Transfer
from ray_durable.checkpoint.codec import dumps, loads
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.recovery import recover
from ray_durable.checkpoint.stores import Store
from ray_durable.metrics import NO_METRICS

operations.install()


class EngineHost:
    """What `actors.host.Host` is around an engine, without Ray: for tests of everything below the actor."""

    def __init__(self, store: Store, writer: str) -> None:
        self.store, self.writer = store, writer
        self.loop = asyncio.get_running_loop()
        self.outcomes: dict[str, Finished] = {}
        self.waiters: dict[str, asyncio.Future[None]] = {}
        self.errors: list[Exception] = []
        self.pool = concurrent.futures.ThreadPoolExecutor(1)
        shelf = CodeShelf(store)
        self.engine = Engine(self.loop, tally=Tally(NO_METRICS), on_finished=self.finished)
        self.engine.before_commit = shelf.shelve
        self.engine.log = self.log = Log(
            store,
            writer,
            executor=self.pool,
            call_soon=self.loop.call_soon_threadsafe,
            on_durable=self.engine.on_durable,
            on_error=self.stopped,
        )

    def stopped(self, error: Exception) -> None:
        self.errors.append(error)
        self.engine.stop()

    def finished(self, finished: Finished) -> None:
        assert finished.coroutine not in self.outcomes, "finished twice"
        self.outcomes[finished.coroutine] = finished
        waiter = self.waiters.get(finished.coroutine)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def start(self, function: Callable[..., Any], *args: Any, id: str = "c", **header: Any) -> None:
        call = Transfer(
            Header(id, function.__name__, **header), "call", dumps((function, args, {})), epoch=1, to=self.writer
        )
        self.adopt(call)

    def adopt(self, transfer: Transfer) -> None:
        self.engine.adopt(transfer, lambda: None)

    async def result(self, id: str = "c", timeout_s: float = 20.0) -> Any:
        """The coroutine's result; raises its exception."""
        if id not in self.outcomes:
            waiter = self.waiters.setdefault(id, self.loop.create_future())
            await asyncio.wait_for(waiter, timeout_s)
        outcome = self.outcomes[id]
        value = loads(outcome.payload)
        if outcome.ending != "completed":
            raise value
        return value

    def crash(self) -> None:
        """Stop as SIGKILL would: nothing more is run, written or released."""
        self.engine.stop()
        self.log.on_durable = lambda tokens: None
        self.log.on_error = lambda error: None
        self.log.rows.clear()
        self.pool.shutdown(wait=True)

    def successor(self, writer: str) -> EngineHost:
        """A host that has adopted everything that this one's log says is unfinished."""
        after = EngineHost(self.store, writer)
        for found in recover(self.store, self.writer).coroutines.values():
            transfer = transfer_from(found)
            if found.live and transfer is not None:
                after.adopt(transfer.planned(transfer.epoch + 1, writer))
        return after
