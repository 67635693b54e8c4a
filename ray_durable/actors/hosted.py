"""One coroutine on a host: the runner's part, and what the host knows besides."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray_durable.actors.dealing import dealing, loading
from ray_durable.actors.mailbox import Mailbox, Message
from ray_durable.actors.pacing import watch
from ray_durable.actors.transfer import Form, Header, Marks, Transfer
from ray_durable.checkpoint.codec import BufferStore, dumps, dumps_given, loads
from ray_durable.checkpoint.record import Codec
from ray_durable.errors import CannotSaveError
from ray_durable.operations import Emit, Request
from ray_durable.runner import Branch, Coroutine, start

__all__ = ["Answered", "Emitted", "Hosted", "Leaving"]


class Emitted(Request):
    """The value of this yield is in an `item` record already; go on when the reader's backlog allows."""

    __slots__ = ()


class Answered(Request):
    """What the branch waited for is here, but the branch has not taken it yet."""

    __slots__ = ("value", "error")  # noqa: RUF023 - the order of the arguments

    def __init__(self, value: Any, error: BaseException | None) -> None:
        self.value = value
        self.error = error


@dataclass(slots=True)
class Leaving:
    """The coroutine is to be let go at its next yield point; `done` gets the transfer once that is durable."""

    epoch: int
    to: str
    done: Callable[[Transfer | None], None]


class Hosted:
    """What a host keeps of one coroutine."""

    __slots__ = (
        "adoption",
        "arriving",
        "blocked",
        "codec",
        "coroutine",
        "epoch",
        "events",
        "header",
        "items",
        "last",
        "leaving",
        "mailbox",
        "marks",
        "plain",
        "readers",
        "since",
        "visible",
    )

    def __init__(self, header: Header, coroutine: Coroutine, epoch: int, marks: Marks) -> None:
        self.header = header
        self.coroutine = coroutine
        self.epoch = epoch
        self.marks = marks
        self.mailbox: Mailbox | None = None
        self.events = marks.events  # number of the newest event, durable or on its way
        self.items: deque[tuple[int, bytes]] = deque()  # streamed values that nobody has read
        self.visible = marks.emitted  # streamed values that are durable
        self.readers: list[Callable[[], None]] = []
        self.blocked: Branch | None = None  # waits for the reader to catch up
        self.leaving: Leaving | None = None
        self.arriving: set[int] = set()  # events that are on their way into the log, and not in the state
        self.last: tuple[Form, bytes] | None = None  # form and state to run again from, kept for those that may retry
        self.since: list[tuple[int, bytes]] = []  # events since then
        self.adoption: list[Callable[[], None]] | None = []  # to be called once `adopted` is durable; None: it is
        self.codec = int(Codec.PICKLE | Codec.KEPT if header.keep_history else Codec.PICKLE)
        self.plain = True  # nothing streams, nothing arrives: the marks need not be written
        coroutine.host = self

    @classmethod
    def from_transfer(cls, transfer: Transfer, chunks: BufferStore | None = None) -> Hosted:
        """Build or rebuild the coroutine; nothing of it runs yet. `chunks`: where large buffers are read.

        Raises: whatever unpickling user data raises; TypeError when the call does not fit its function."""
        header = transfer.header
        marks = replace(transfer.marks)  # the transfer's own say what its state holds, and stay so
        coroutine = Coroutine(header.id, name=header.name, epoch=transfer.epoch, seq=transfer.seq)
        looping = header.checkpoint_every_s is not None
        more = load_into(coroutine, transfer.form, transfer.state, transfer.events, chunks, looping)
        mailbox = None
        if more is not None:
            letters, marks.emitted, marks.retried = more
            mailbox = None if letters is None else Mailbox.decode(letters)
        hosted = cls(header, coroutine, transfer.epoch, marks)
        hosted.mailbox = mailbox
        # An item may be durable without the checkpoint behind it: its yield has not happened.
        hosted.items.extend(item for item in transfer.items if item[0] < marks.emitted)
        hosted.visible = marks.emitted
        hosted.plain = not any(marks.numbers())
        if header.retry_exceptions:
            hosted.last = (transfer.form, transfer.state)
        for number, payload in transfer.events:
            hosted.apply_event(number, payload)
        if header.checkpoint_every_s is not None:
            watch(coroutine, header.checkpoint_every_s)
        return hosted

    def rewind(self, chunks: BufferStore | None = None) -> None:
        """Build the coroutine again as it was at its last checkpoint, with what has come since."""
        assert self.last is not None
        form, state = self.last
        old = self.coroutine
        coroutine = Coroutine(old.id, name=old.name, epoch=old.epoch, seq=old.seq)
        every_s = self.header.checkpoint_every_s
        more = load_into(coroutine, form, state, self.since, chunks, every_s is not None)
        self.mailbox = None if more is None or more[0] is None else Mailbox.decode(more[0])
        self.blocked = None
        since, self.since = self.since, []
        for number, payload in since:
            self.apply_event(number, payload)
        self.plain = False
        old.host, coroutine.host = None, self
        self.coroutine = coroutine
        if every_s is not None:
            watch(coroutine, every_s)

    def when_adopted(self, action: Callable[[], None]) -> None:
        """Call `action` once this host's adoption is durable."""
        if self.adoption is None:
            action()
        else:
            self.adoption.append(action)

    def adopted(self) -> None:
        """The adoption is durable."""
        actions, self.adoption = self.adoption or [], None
        for action in actions:
            action()

    def apply_event(self, number: int, payload: bytes) -> None:
        """Bring a durable event into the state."""
        self.plain = False
        self.arriving.discard(number)
        self.events = max(self.events, number)
        self.mark_events()
        if self.last is not None:
            self.since.append((number, payload))
        message = loads(payload)
        if isinstance(message, Message):
            if self.mailbox is None:
                self.mailbox = Mailbox()
            self.mailbox.put(message)

    def mark_events(self) -> None:
        """All events below the first that is still on its way are in the state."""
        self.marks.events = min(self.arriving) - 1 if self.arriving else self.events

    def saved(self, state: bytes) -> None:
        """A checkpoint with this state has been gathered, of one that may have to run again from it."""
        self.last = ("frames", state)
        self.since.clear()

    def state(self, chunks: BufferStore | None = None) -> bytes:
        """The pickled state of all branches, the mailbox and what the log's marks leave out; large buffers go to
        `chunks`, if given.

        Raises: CannotSaveError."""
        coroutine = self.coroutine
        if dealing.met:  # by a dump that failed
            dealing.met = {}
        dealing.coroutine = coroutine
        try:
            if self.plain:
                data = dumps((coroutine.state(by_key=True),), chunks, by_key=True)
            else:
                data = dumps((coroutine.state(by_key=True), *self.besides()), chunks, by_key=True)
        except CannotSaveError:
            # Plain data names no variables: the live objects tell which one it is, or can be saved after all.
            data = dumps((coroutine.state(), *self.besides()), chunks, by_key=True)
        finally:
            dealing.coroutine = None
        if dealing.met or coroutine.calls:
            coroutine.calls, dealing.met = dealing.met, {}  # the frames have forgotten the others
        return data

    def reason_against(self, branch: Branch) -> Exception | None:
        """Why this branch cannot be saved, taken by itself; None if it can."""
        dealing.coroutine = self.coroutine
        try:
            dumps((branch.root, branch.request), by_key=True)
        except Exception as refusal:
            return refusal
        finally:
            dealing.coroutine = None
        return None

    def besides(self) -> tuple[Any, ...]:
        """What a state holds besides the branches."""
        letters = None if self.mailbox is None else self.mailbox.encode()
        return letters, self.marks.emitted, self.marks.retried

    def emit(self, branch: Branch) -> tuple[int, bytes]:
        """Take the value that `branch` yields out of its request: index and payload of the `item` record."""
        request = branch.request
        assert isinstance(request, Emit)
        payload = dumps_given(request.value, "yielded value", self.header.function)
        index = self.marks.emitted
        self.marks.emitted += 1
        self.items.append((index, payload))
        self.plain = False
        branch.request = Emitted()
        return index, payload

    def is_backlogged(self) -> bool:
        """Whether the reader is so far behind that the stream should wait."""
        limit = self.header.unread_max
        return limit >= 0 and self.visible - self.marks.read >= max(1, limit)

    def reader_has(self, index: int) -> None:
        """The reader has all values below `index`: they need not be kept."""
        while self.items and self.items[0][0] < index:
            self.items.popleft()
        self.marks.read = max(self.marks.read, index)

    def notify_readers(self) -> None:
        """Whoever waits for a value of the stream should look again."""
        readers, self.readers = self.readers, []
        for reader in readers:
            reader()

    def transfer(self, epoch: int, to: str, state: bytes) -> Transfer:
        return Transfer(
            header=self.header,
            form="frames",
            state=state,
            epoch=epoch,
            seq=self.coroutine.seq,
            to=to,
            marks=self.marks,
            items=tuple(self.items),
        )


def load_into(
    coroutine: Coroutine,
    form: Form,
    state: bytes,
    events: Sequence[tuple[int, bytes]],
    chunks: BufferStore | None,
    looping: bool = False,
) -> Any:
    """Give `coroutine` the branches that `state` holds, with the results that are in `events`. Returns what the state
    has besides: letters, values streamed, times retried; None when it has only branches."""
    with loading(coroutine, events):
        if form == "call":
            coroutine.begin(start(*loads(state, chunks), back_edges=looping))
            return None
        branches, *more = loads(state, chunks)
        coroutine.resume(branches)
        return more or None
