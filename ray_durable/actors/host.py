"""The Ray actor that runs coroutines: a thin shell around the engine, its log and its lease.

A host never decides who owns what. It takes coroutines that a durable plan gives to its own incarnation, gives them up
on a command of the current term, reports what has ended, and ends itself when its log is sealed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from ray_durable import operations
from ray_durable.actors import cluster, refs
from ray_durable.actors.code import CodeShelf
from ray_durable.actors.culprits import Culprit, Mark, found_in
from ray_durable.actors.engine import Engine
from ray_durable.actors.exporter import Exporter, watch_loop_lag
from ray_durable.actors.heartbeat import Beater
from ray_durable.actors.hosted import Leaving
from ray_durable.actors.housekeeping import keep_small
from ray_durable.actors.mailbox import Message
from ray_durable.actors.membership import lease_held
from ray_durable.actors.opening import open_metered
from ray_durable.actors.outcomes import Finished, Value
from ray_durable.actors.tally import Tally
from ray_durable.actors.transfer import Transfer
from ray_durable.checkpoint.codec import dumps
from ray_durable.checkpoint.keys import keys_of
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.names import segment_name
from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.compiler.identity import set_policy
from ray_durable.config import Settings
from ray_durable.errors import FencedError, NoSuchCoroutineError, StaleTermError, StoreError
from ray_durable.inspection import view_branches
from ray_durable.logs import open_event_log
from ray_durable.metrics import Metrics

__all__ = ["Host"]

REPORT_EVERY_S = 1.0
SWITCH_INTERVAL_S = 0.001  # with Python's 5 ms a commit waits long beside a busy loop; half of this costs a tenth
COMMIT_HERE_BELOW_S = 0.002
LEASE_CHECKS_PER_LEASE = 20


class Host:
    """One host incarnation. Every method is called by the controller, with its term first."""

    def __init__(
        self, incarnation: str, settings: Settings, dedicated_to: str | None = None, environment: str = ""
    ) -> None:
        self.incarnation = incarnation
        self.settings = settings
        self.dedicated_to, self.environment = dedicated_to, environment  # a later term asks for them
        self.term = 0
        self.outbox: deque[tuple[int, Finished]] = deque()
        self.sent = 0
        self.news: asyncio.Event | None = None
        self.engine: Engine
        self.mark: Mark  # what runs here, for whoever comes after
        self.culprits: list[Culprit] = []  # what hosts before this one on this machine have died of
        self.beater: Beater | None = None
        self.started = False
        self.unsealed_at = 0.0
        self.leaving: dict[
            str, tuple[int, str, asyncio.Future[bytes | None]]
        ] = {}  # until it is adopted: epoch, target
        self.released: dict[str, int] = {}  # moved away from here and adopted there, as the controller says

    # ------------------------------------------------------------ beginning

    async def hello(self, term: int, address: tuple[str, int], token: str) -> dict[str, Any]:
        """Serve the controller of `term`, whose heartbeat listener is at `address`. Returns what this host is.

        On return whatever earlier terms have brought about here is in the log, and nothing more of theirs will be."""
        self.check(term)
        if not self.started:
            self.start()
        self.engine.stay()
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.engine.after_commit(lambda: settled.set_result(None))
        await settled
        self.check(term)
        if self.beater is not None:
            self.beater.close()
        self.beater = Beater(
            self.incarnation,
            address,
            token,
            period_s=self.settings.heartbeat_s,
            turns=lambda: self.engine.turns,
            raylet_is_alive=cluster.raylet_is_alive,
            loop_is_alive=threading.current_thread().is_alive,
        )
        culprits, self.culprits = self.culprits, []
        return {
            "pid": os.getpid(),
            "node": cluster.this_node_id(),
            "metrics": self.exporter.address or "",
            "dedicated_to": self.dedicated_to,
            "environment": self.environment,
            "culprits": culprits,
        }

    def start(self) -> None:
        """Open the log and get ready to run; on the actor's own loop."""
        self.started = True
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        os.environ["RAY_DURABLE_NAMESPACE"] = self.settings.namespace  # what coroutines here start goes there too
        operations.install()
        refs.install_in_host()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self.loop_failed)
        self.news = asyncio.Event()
        self.event_log = open_event_log(self.incarnation, self.settings, cluster.log_directory())
        folder = cluster.log_directory().parent / "ray_durable" / self.settings.namespace
        self.culprits = found_in(folder)
        self.mark = Mark(folder, self.incarnation)
        metrics = Metrics(node=cluster.this_node_id()[:12], host=self.incarnation, on=self.settings.metrics)
        self.metrics = metrics
        self.tally = Tally(metrics)
        self.engine = Engine(loop, tally=self.tally, turn_size=self.settings.turn_size, on_finished=self.finished)
        self.engine.allowed = self.allowed
        self.engine.running = self.mark.place
        store, keys = open_metered(self.settings, metrics), keys_of(self.settings)
        set_policy(self.settings.code_identity)
        self.engine.before_commit = CodeShelf(store, keys).shelve
        in_flight = self.settings.commits_in_flight if store.remote else 1
        self.engine.log = self.log = Log(
            store,
            self.incarnation,
            executor=concurrent.futures.ThreadPoolExecutor(in_flight, thread_name_prefix="log"),
            call_soon=loop.call_soon_threadsafe,
            on_durable=self.engine.on_durable,
            on_error=self.log_stopped,
            in_flight=in_flight,
            call_here=loop.call_soon,
            here_below_s=0.0 if store.remote else COMMIT_HERE_BELOW_S,
            keys=keys,
            metrics=metrics,
        )
        metrics.coroutines.follow(lambda: len(self.engine.coroutines) - len(self.engine.ready), "waiting")
        metrics.coroutines.follow(lambda: len(self.engine.ready), "ready")
        metrics.log_segments.follow(lambda: len(self.log.tail.sizes))
        metrics.log_bytes.follow(lambda: self.log.tail.bytes)
        metrics.oldest_ready.follow(lambda: self.tally.ready.oldest(SYSTEM_CLOCK.monotonic()))
        self.exporter = Exporter.start(metrics, self.settings)
        self.lease_task = loop.create_task(self.keep_lease())
        self.small_task = loop.create_task(keep_small(self.log, self.settings, self.event_log, lambda: self.released))
        self.lag_task = loop.create_task(watch_loop_lag(metrics))
        gc.freeze()

    def loop_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Nothing that fails in a callback goes unseen."""
        self.event_log.error("callback_failed", context.get("exception"), message=context["message"])

    def check(self, term: int) -> None:
        """Rule 13: a host refuses commands of a lower term. Raises: StaleTermError."""
        if term < self.term:
            raise StaleTermError(term, self.term)
        self.term = term

    # ------------------------------------------------------------ lease and fence

    def renewed(self) -> float:
        """When this host last had proof that it may go on: a commit, a look that showed no seal, or an answer to its
        heartbeat."""
        beat = self.beater.renewed if self.beater is not None else 0.0
        return max(beat, self.log.durable_at, self.unsealed_at)

    def allowed(self) -> bool:
        """Whether coroutines may be resumed now (rule 13)."""
        return lease_held(SYSTEM_CLOCK.monotonic(), self.renewed(), self.settings.lease_s)

    async def keep_lease(self) -> None:
        """While no controller renews the lease, look for a seal: the host goes on as long as there is none."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.settings.lease_s / LEASE_CHECKS_PER_LEASE)
            if self.allowed():
                if self.engine.paused:
                    self.engine.paused = False
                    self.engine.schedule()
                continue
            self.engine.paused = True
            looked_at = SYSTEM_CLOCK.monotonic()
            number = self.log.progress.next
            try:
                fence = await loop.run_in_executor(None, self.log.objects.look, segment_name(self.incarnation, number))
            except StoreError:
                continue  # whether there is a seal cannot be known: nothing runs until it can
            if fence == (None, False):
                self.unsealed_at = looked_at
            elif self.log.progress.next == number:  # not a segment that was made meanwhile
                self.log_stopped(FencedError(self.incarnation, "a seal", number))

    def log_stopped(self, error: Exception) -> None:
        """The log is over: run and release nothing more, and end this process."""
        self.engine.stop()
        self.mark.clear()
        self.event_log.error("log_stopped", error)
        if isinstance(error, FencedError) and self.beater is not None:
            self.beater.say_fenced()
        logging.shutdown()
        os._exit(1)

    # ------------------------------------------------------------ reporting

    def finished(self, finished: Finished) -> None:
        write = self.event_log.info if finished.ending == "failed" else self.event_log.debug
        reason = finished.text.rpartition("\n")[2] or None
        write(finished.ending, coroutine=finished.coroutine, epoch=finished.epoch, error=reason)
        self.sent += 1
        self.outbox.append((self.sent, finished))
        assert self.news is not None
        self.news.set()

    async def report(self, term: int, seen: int, released: Mapping[str, int]) -> dict[str, Any]:
        """What has ended here beyond report `seen`, with this host's figures; waits a moment for news. `released`:
        coroutines that moved away from here, and are adopted elsewhere at that epoch.

        The call that the controller always keeps open: its failure is the death notice."""
        self.check(term)
        assert self.news is not None
        self.released.update(released)
        for id, epoch in released.items():
            if id in self.leaving and self.leaving[id][0] <= epoch:  # not that of a later stay here
                del self.leaving[id]
        while self.outbox and self.outbox[0][0] <= seen:
            self.outbox.popleft()
        if not self.outbox:
            self.news.clear()
            try:
                await asyncio.wait_for(self.news.wait(), REPORT_EVERY_S)
            except TimeoutError:
                pass
        return {
            "finished": [finished for _, finished in self.outbox],
            "seen": self.outbox[-1][0] if self.outbox else seen,
            "coroutines": len(self.engine.coroutines),
            "checkpoints": self.tally.checkpoints,
            "bytes": self.tally.bytes,
        }

    # ------------------------------------------------------------ coroutines

    async def adopt(self, term: int, transfers: Sequence[bytes]) -> list[tuple[str, int]]:
        """Take coroutines over that a durable plan gives to this incarnation (rule 11). Returns, once the adoptions are
        durable, the id and epoch of each that was taken."""
        self.check(term)
        waiting = []
        for data in transfers:
            transfer = Transfer.decode(data)
            if transfer.to != self.incarnation:
                continue
            done: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
            answer = (transfer.header.id, transfer.epoch)
            self.event_log.debug("adopting", coroutine=answer[0], epoch=answer[1], seq=transfer.seq, form=transfer.form)
            self.engine.adopt(transfer, lambda done=done, answer=answer: done.set_result(answer))  # type: ignore[misc]
            waiting.append(done)
        return await asyncio.gather(*waiting)

    async def release(self, term: int, id: str, epoch: int, to: str) -> bytes | None:
        """Give a coroutine up at its next yield point. Returns its transfer once `moved` is durable, None if it has
        ended or is not here."""
        self.check(term)
        known = self.leaving.get(id)
        if known is not None and known[:2] == (epoch, to):  # the answer to the same command was lost
            return await asyncio.shield(known[2])
        done: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self.leaving[id] = epoch, to, done

        def moved(transfer: Transfer | None) -> None:
            if transfer is not None:
                self.event_log.debug("moved", coroutine=id, epoch=epoch, seq=transfer.seq, to=to)
            if not done.done():
                done.set_result(None if transfer is None else transfer.encode())

        self.engine.release(id, Leaving(epoch, to, moved))
        data = await asyncio.shield(done)
        if data is None and self.leaving.get(id) == (epoch, to, done):
            del self.leaving[id]
        return data

    async def deliver(self, term: int, id: str, sender: str, number: int, topic: str, payload: bytes) -> bool:
        """Put a message into a coroutine's mailbox. True once it is durable, False if the coroutine is not here."""
        self.check(term)
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        message = Message(sender, number, topic, payload)
        self.engine.deliver(id, message, dumps(message), done.set_result)
        return await done

    async def cancel(self, term: int, id: str) -> bool:
        """Cancel a coroutine at its yield point. True once that is durable, False if the coroutine is not here."""
        self.check(term)
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.engine.cancel(id, done.set_result)
        return await done

    async def item(self, term: int, id: str, index: int) -> Value | None:
        """The streamed value `index` as soon as it is durable, or None when neither it nor the coroutine is here.

        Asking for it says that the reader has all values before it. Raises: NoSuchCoroutineError for one of those."""
        self.check(term)
        while True:
            hosted = self.engine.coroutines.get(id)
            if hosted is None:
                return None
            self.engine.reader_has(hosted, index)
            if index < hosted.visible:
                found = next((Value(payload) for at, payload in hosted.items if at == index), None)
                if found is None:
                    raise NoSuchCoroutineError(id, f"its value {index} was read before, and is not kept")
                return found
            news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            hosted.readers.append(lambda news=news: news.done() or news.set_result(None))  # type: ignore[misc]
            await news

    async def oldest_item(self, term: int, id: str) -> int | None:
        """The index of the first streamed value that its reader does not surely have; None if it is not here."""
        self.check(term)
        hosted = self.engine.coroutines.get(id)
        return None if hosted is None else hosted.marks.read

    async def inspect(self, term: int, id: str) -> dict[str, Any] | None:
        """Where a coroutine stands, as fields of `CoroutineView`; None if it is not here."""
        self.check(term)
        hosted = self.engine.coroutines.get(id)
        if hosted is None or hosted.coroutine.host is None:
            return None
        state = "waiting" if hosted.coroutine.main.parked else "running"
        return {"state": state, "seq": hosted.coroutine.seq, "branches": view_branches(hosted.coroutine)}

    async def owned(self, term: int) -> dict[str, int]:
        """The coroutines here, each with its epoch."""
        self.check(term)
        return {id: hosted.epoch for id, hosted in self.engine.coroutines.items()}
