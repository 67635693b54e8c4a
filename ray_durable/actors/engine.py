"""One event loop, many coroutines: a host's heart, without Ray.

The engine advances ready coroutines in turns, gathers a checkpoint of each into the log, and lets a coroutine go on
only when that checkpoint is durable. Whatever a step releases (a result, a streamed value, an answer to a sender) is
released by the same durable commit. Invariant: once the log is fenced, nothing more is run or released.

All methods are called on the loop's thread. How object references are awaited is `refs`' business, who may own what
the controller's.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from mmap import mmap
from typing import Any

from ray_durable.actors import ending, leaving, letters
from ray_durable.actors.arranging import arrangers, resume_stream
from ray_durable.actors.attending import attend, attend_always, is_cancelled
from ray_durable.actors.culprits import IDLE, note
from ray_durable.actors.driving import AsyncDriver
from ray_durable.actors.hosted import Answered, Hosted, Leaving
from ray_durable.actors.mailbox import Message
from ray_durable.actors.outcomes import ENDINGS, Ending, Finished, pack_outcome
from ray_durable.actors.runqueue import Timers, Wakeup
from ray_durable.actors.saving import Together, save, save_together
from ray_durable.actors.tally import Tally
from ray_durable.actors.transfer import Transfer
from ray_durable.checkpoint.record import Codec, Kind
from ray_durable.checkpoint.references import find_references
from ray_durable.clock import SYSTEM_CLOCK, Clock
from ray_durable.compiler.discard import discard
from ray_durable.operations import PAUSE, Request
from ray_durable.runner import Branch, Coroutine, Outcome

__all__ = ["Engine"]

TURN_S = 0.005  # a turn that has lasted this long commits what it has
DEPARTED_S = 60.0  # a command about what was here may be this late
DEPARTED_MIN = 10_000


class Engine:
    """Runs coroutines over one log. `log` has the writer's interface of `checkpoint.log.Log`; its `on_durable` must be
    this engine's `on_durable`. `turn_size` bounds how many coroutines one turn of the loop advances."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        tally: Tally,
        turn_size: int = 128,
        clock: Clock = SYSTEM_CLOCK,
        on_finished: Callable[[Finished], None],
    ) -> None:
        self.loop = loop
        self.log: Any = None  # set by whoever opens it with `on_durable`
        self.clock = clock
        self.tally = tally
        self.turn_size = turn_size
        self.on_finished = on_finished
        self.coroutines: dict[str, Hosted] = {}
        self.departed: OrderedDict[str, tuple[int, float]] = OrderedDict()  # epoch of what was here, and until when
        self.ready: deque[Wakeup] = deque()
        self.unsaved: dict[Coroutine, list[Branch]] = {}  # branches that have stepped in this turn, and have sisters
        self.timers = Timers(loop, clock)
        self.scheduled = False
        self.paused = False
        self.stopped = False
        self.turns = 0
        self.allowed: Callable[[], bool] = lambda: True  # a host says here whether it holds its lease
        self.on_failure: Callable[[Exception], None] = self.raise_later
        self.running: bytearray | mmap = bytearray(IDLE)  # what runs just now; a host's is a file that outlives it
        self.before_commit: Callable[[], None] = lambda: None  # a host stores code here that the frames refer to
        self.arrangers: dict[type[Request], Callable[[Engine, Branch, Any], None]] = dict(arrangers())

    # ------------------------------------------------------------ turns

    def schedule(self) -> None:
        """Have a turn soon; every change that makes something ready or gathers a record calls this."""
        if not self.scheduled and not self.stopped:
            self.scheduled = True
            self.loop.call_soon(self.turn)

    def turn(self) -> None:
        """Advance some ready coroutines, then commit what has gathered."""
        self.scheduled = False
        self.turns += 1
        if self.stopped:
            return
        if not self.paused and not self.allowed():
            self.paused = True
        began = self.clock.monotonic()
        if not self.paused and not self.log.full:  # else the next commit that is durable makes room
            ready, step = self.ready, self.step
            count, waiting = min(self.turn_size, len(ready)), len(ready)
            over, monotonic = began + TURN_S, self.clock.monotonic
            for done in range(count):
                if monotonic() > over:  # 40 ns; long steps must not wait for each other's commit
                    count = done
                    break
                branch, value, thrown = ready.popleft()
                try:
                    step(branch, value, thrown)
                except Exception as error:
                    self.fail(branch, error)
            self.tally.turn_begins(began, waiting, count)
        self.running[:] = IDLE
        if self.unsaved:
            save_together(self)
        self.tally.turn_ends(began)
        self.before_commit()
        self.log.commit(idle=not self.ready)
        if self.ready and not self.paused and not self.log.full:
            self.schedule()

    def fail(self, branch: Branch, error: Exception) -> None:
        """A mistake of ours, met while we served `branch`: its coroutine fails by it, instead of waiting for ever."""
        self.on_failure(error)
        hosted: Hosted | None = branch.coroutine.host
        if hosted is not None and not self.stopped:
            self.end(hosted, "failed", error)

    def raise_later(self, error: Exception) -> None:
        """Have the loop's exception handler see it, and go on."""

        def again() -> None:
            raise error

        self.loop.call_soon(again)

    def step(self, branch: Branch, value: Any, error: BaseException | None) -> None:
        """Run one branch to its next request or end."""
        coroutine = branch.coroutine
        if coroutine.host is None:
            return  # it has ended or left since it became ready
        if branch.is_async:
            if branch.driver is None:
                branch.driver = AsyncDriver(branch, self)
            branch.driver.wake(value, error)
        else:
            note(self.running, 0, coroutine.seq, coroutine.label)
            self.stepped(branch, *branch.step(value, error))

    def stepped(self, branch: Branch, outcome: Outcome, answer: Any) -> None:
        """What follows a step: a checkpoint, or the branch's end."""
        coroutine = branch.coroutine
        if coroutine.host is None:
            return  # it was let go while an asyncio task still drove it
        if outcome is Outcome.SUSPENDED:
            save(self, branch)
        elif outcome is Outcome.FOREIGN:
            pass  # it waits elsewhere, but may have started or stirred others
        elif branch.number:
            coroutine.finish_branch(branch, outcome is Outcome.RETURNED, answer)
            if coroutine.host.leaving is not None:
                leaving.try_leave(self, coroutine.host)
        elif outcome is Outcome.RETURNED:
            ending.returned(self, coroutine.host, answer)
        else:
            ending.raised(self, coroutine.host, answer)
        if coroutine.stirred:
            attend(self, coroutine)
        if not self.scheduled:
            self.schedule()

    def on_durable(self, tokens: list[Any]) -> None:
        """One commit is durable: everything that waited for it goes on, in order."""
        if self.stopped:
            return
        arrange = self.arrange
        others = 0
        for token in tokens:
            try:
                if type(token) is Branch:
                    arrange(token)
                elif type(token) is Together:
                    self.arrange_all(token)
                else:
                    others += 1
                    if token is not None:
                        token()
            except Exception as error:  # a mistake of ours: the others of this commit must not wait for it
                if type(token) is Branch:
                    self.fail(token, error)
                else:
                    self.on_failure(error)
        self.tally.committed(len(tokens) - others, self.clock.monotonic())
        if self.ready:
            self.schedule()

    # ------------------------------------------------------------ waiting and waking

    def arrange(self, branch: Branch) -> None:
        """Carry out what `branch` asks for, its checkpoint being durable."""
        hosted: Hosted | None = branch.coroutine.host
        if hosted is None:
            return
        request = branch.request
        if request is PAUSE and hosted.leaving is None and hosted.mailbox is None and branch.task is None:
            self.wake(branch, None)  # as most do
            return
        branch.parked = True
        if hosted.leaving is not None:
            leaving.try_leave(self, hosted)  # or it is held until the others stand still too
            return
        if hosted.mailbox is not None and branch.number == 0 and letters.take_cancellation(self, hosted):
            return
        if is_cancelled(branch) or request is None:
            self.wake(branch, None)
        elif type(request) is Answered:
            self.wake(branch, request.value, request.error)
        else:
            self.arrangers[type(request)](self, branch, request)

    def arrange_all(self, branches: Together) -> None:
        """Carry out what branches ask for that share a checkpoint."""
        for branch in branches:
            try:
                self.arrange(branch)
            except Exception as error:
                self.fail(branch, error)

    def wake(self, branch: Branch, value: Any, error: BaseException | None = None) -> None:
        """The branch has its answer: run it in a coming turn."""
        branch.parked = False
        if branch.coroutine.others and branch.request is not None:
            # Another branch's checkpoint may come before this one has taken its answer.
            branch.request = Answered(value, error)
        self.ready.append((branch, value, error))
        if not self.scheduled:
            self.schedule()

    def wake_if(self, branch: Branch, request: Request, value: Any, error: BaseException | None = None) -> None:
        """Wake `branch` if it still waits for `request`: timers and references may answer late."""
        if branch.parked and branch.request is request and branch.coroutine.host is not None:
            self.wake(branch, value, error)

    def at(self, until: float, action: Callable[[], None]) -> Callable[[], None]:
        """Call `action` at `until`, in seconds since the epoch. What is returned calls that off."""
        return self.timers.add(until, action)

    # ------------------------------------------------------------ coming, going and ending

    def adopt(self, transfer: Transfer, adopted: Callable[[], None]) -> None:
        """Take a coroutine over: commit `adopted`, then run it. `adopted` is called when that is durable.

        One that cannot be built fails with the reason; one that is here already at this epoch is not taken twice."""
        id, epoch = transfer.header.id, transfer.epoch
        known = self.coroutines.get(id)
        if known is not None and known.epoch >= epoch:
            known.when_adopted(adopted)
            return
        if id in self.departed and self.departed[id][0] >= epoch:
            adopted()  # it was here, and has ended or moved on
            return
        try:
            hosted = Hosted.from_transfer(transfer, self.log.chunks)
            broken = None
        except Exception as error:
            hosted, broken = Hosted(transfer.header, Coroutine(id, seq=transfer.seq), epoch, transfer.marks), error
            hosted.coroutine.host = None
        hosted.when_adopted(adopted)
        self.coroutines[id] = hosted
        self.tally.adopted(hosted.header.function, begun=transfer.form == "call")

        def begin() -> None:
            hosted.adopted()
            if broken is None:
                self.begin(hosted)
            else:
                self.end(hosted, "failed", broken)

        for writer in sorted({found.writer for found in find_references(transfer.state)}):
            self.log.append(id, epoch, transfer.seq, Kind.HOLDS, writer.encode())  # rule 7: before it runs
        self.log.append(id, epoch, transfer.seq, Kind.ADOPTED, transfer.encode(), begin, transfer.marks.pack())
        self.schedule()

    def begin(self, hosted: Hosted) -> None:
        """Set every branch going: at its request, or from its start."""
        coroutine = hosted.coroutine
        for branch in coroutine.branches():
            self.arrange(branch)
        attend_always(self, coroutine)

    def let_go_of_branches(self, coroutine: Coroutine) -> None:
        """Drop all branches but the main one, which has ended: its `gather` gave up on them."""
        coroutine.silence()
        for branch in coroutine.others.values():
            if branch.driver is not None:
                branch.driver.stop()
            discard(branch.root)

    def end(self, hosted: Hosted, ending: Ending, value: Any) -> None:
        """Make the outcome durable, then tell of it."""
        header = hosted.header
        ending, payload, text = pack_outcome(header.id, header.function, ending, value)
        hosted.coroutine.seq += 1
        self.let_go_of_branches(hosted.coroutine)
        hosted.coroutine.host = None
        self.tally.ended(header.function, ending)

        def release() -> None:
            self.depart(hosted)
            if hosted.leaving is not None:
                hosted.leaving.done(None)
            hosted.visible = hosted.marks.emitted
            items, emitted = tuple(hosted.items), hosted.marks.emitted
            ended = self.clock.now()
            self.on_finished(Finished(header.id, hosted.epoch, ending, payload, text, emitted, items, ended))
            hosted.notify_readers()

        marks = hosted.marks.pack() + text.encode()
        self.log.append(header.id, hosted.epoch, hosted.coroutine.seq, ENDINGS[ending], payload, release, marks)
        self.schedule()

    def reader_has(self, hosted: Hosted, index: int) -> None:
        """The stream's reader has all values below `index`; a generator that waited for it goes on."""
        hosted.reader_has(index)
        if hosted.blocked is not None:
            resume_stream(self, hosted)

    def depart(self, hosted: Hosted) -> None:
        """It is not here any more: a late command to adopt it at that epoch must not run it again."""
        id, now = hosted.header.id, self.clock.monotonic()
        if self.coroutines.get(id) is hosted:
            del self.coroutines[id]
        self.departed[id] = (hosted.epoch, now + DEPARTED_S)
        self.departed.move_to_end(id)
        while len(self.departed) > DEPARTED_MIN and next(iter(self.departed.values()))[1] < now:
            self.departed.popitem(last=False)

    def release(self, id: str, going: Leaving) -> None:
        """Let a coroutine go at its next yield point: see `leaving.release`."""
        leaving.release(self, id, going)

    def stay(self) -> None:
        """Whatever was to leave and has not left yet stays: another term gives the commands now."""
        for hosted in list(self.coroutines.values()):
            if hosted.leaving is not None and hosted.coroutine.host is not None:
                leaving.stay(self, hosted)

    def after_commit(self, action: Callable[[], Any]) -> None:
        """Call `action` when all that has been gathered so far is durable."""
        self.log.append("", 0, 0, Kind.MARK, b"", action, b"", Codec.OPAQUE)
        self.schedule()

    def cancel(self, id: str, accepted: Callable[[bool], None]) -> None:
        """Cancel a coroutine at its current or next yield point. `accepted(True)`: that is durable, and outlives this
        host; `accepted(False)`: it does not live here, or has ended."""
        letters.cancel(self, id, accepted)

    def deliver(self, id: str, message: Message, payload: bytes, accepted: Callable[[bool], None]) -> None:
        """Make a message durable, then put it in the coroutine's mailbox. `accepted(False)`: it does not live here."""
        letters.deliver(self, id, message, payload, accepted)

    def log_event(self, hosted: Hosted, payload: bytes) -> None:
        """Log what the state of the coroutine has taken in already: the next checkpoint holds it."""
        letters.log_event(self, hosted, payload)

    def stop(self) -> None:
        """Run and release nothing more, for good."""
        self.stopped = True
        self.ready.clear()
        self.unsaved.clear()
        self.timers.stop()
