"""The writer of one log: gathers records on the event loop, commits them in threads, releases in order.

There is no linger: a commit starts when none is under way (a remote store: fewer than `in_flight`), takes all that has
gathered, and the next one starts at once if anything has gathered meanwhile. A small one on a store that was quick last
time is made by the event loop itself when that has nothing else to do, which saves two hand-overs.
Invariant: a token is released only when its segment and all before it are durable, in the order of `append`; once the
log is fenced, none ever is.

`append` and `commit` belong to one thread, the event loop's; the rest happens in the executor's. Which number counts is
`commit`'s decision; how an object is made on a store that fails, `writing`'s.
"""

from __future__ import annotations

import concurrent.futures
import os
import threading
from collections.abc import Callable
from typing import Any, Protocol

from ray_durable.checkpoint.chunks import Chunks
from ray_durable.checkpoint.commit import ITEM, MARK_ROW, Commit, Progress, oldest
from ray_durable.checkpoint.fencing import IN_FLIGHT_MAX, is_proof
from ray_durable.checkpoint.keys import NO_KEYS, Keys
from ray_durable.checkpoint.names import segment_name
from ray_durable.checkpoint.pacing import Pace
from ray_durable.checkpoint.record import Codec
from ray_durable.checkpoint.segment import Row, encode
from ray_durable.checkpoint.stores import Store, open_store
from ray_durable.checkpoint.tail import Tail
from ray_durable.checkpoint.writing import ObjectWriter
from ray_durable.clock import SYSTEM_CLOCK, Clock
from ray_durable.errors import FencedError, LogStoppedError, StoreError
from ray_durable.metrics import NO_METRICS, Metrics

REMOTE_IN_FLIGHT = 4
SEGMENT_RECORDS_MAX = 20_000
SEGMENT_BYTES_MAX = 64 << 20
HERE_RECORDS_MAX = 256
ROWS_MAX = 1_000_000
PROOF_TIMEOUT_S = 60.0


class Executor(Protocol):
    """Where blocking work goes: a thread pool, or the simulator's."""

    def submit(self, fn: Callable[..., None], /, *args: Any) -> Any: ...


class Log:
    """A log in `store` under the name of `writer`, which must be new: one writer per host incarnation.

    `executor.submit` runs commits; `call_soon(fn, *args)` brings results back (`loop.call_soon_threadsafe`).
    `on_durable(tokens)` is called once per commit, in order; `on_error(error)` once, with `FencedError` or
    `LogStoppedError`, after which nothing more is written or released.
    `in_flight`: commits side by side, at most `IN_FLIGHT_MAX`, default 1 on a local store and 4 on a remote one.
    `retry_for_s`: how long one segment is tried on a failing store. `bytes_max`: what may gather before `full` asks for
    a pause. `here_below_s`: an idle event loop makes a commit itself if the last one took less; default 0, never.
    `call_here`: `call_soon` for the event loop's own thread, quicker; default the same.

    Example:
        log = Log(store, "host-1", executor=pool, call_soon=loop.call_soon_threadsafe, on_durable=go_on, on_error=end)
        log.append("order-42", 1, 17, Kind.CHECKPOINT, state, token=coroutine)
        log.commit()
    """

    def __init__(
        self,
        store: Store,
        writer: str,
        *,
        executor: Executor,
        call_soon: Callable[..., Any],
        on_durable: Callable[[list[Any]], Any],
        on_error: Callable[[Exception], Any],
        in_flight: int | None = None,
        retry_for_s: float = 30.0,
        bytes_max: int = 256 << 20,
        here_below_s: float = 0.0,
        call_here: Callable[..., Any] | None = None,
        keys: Keys = NO_KEYS,
        clock: Clock = SYSTEM_CLOCK,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        segment_name(writer, 0)  # refuses an unfit name
        self.store, self.writer = store, writer
        self.executor, self.call_soon, self.call_here = executor, call_soon, call_here or call_soon
        self.on_durable, self.on_error = on_durable, on_error
        self.bytes_max, self.here_below_s = bytes_max, here_below_s
        self.keys, self.clock, self.metrics = keys, clock, metrics
        self.nonce = os.urandom(16) if clock is SYSTEM_CLOCK else bytes.fromhex(clock.unique())
        in_flight = in_flight or (REMOTE_IN_FLIGHT if store.remote else 1)
        self.progress: Progress[Commit] = Progress(min(in_flight, IN_FLIGHT_MAX))
        self.own_executor: concurrent.futures.Executor | None = None
        self.rows: list[Row] = []
        self.items: list[Row] = []
        """Those that wait for the record after them."""
        self.lock = threading.Lock()
        self.advanced = threading.Condition(self.lock)
        self.marks_wanted = 0
        self.tail, self.pace = Tail(), Pace(clock)
        self.bytes_appended = 0
        self.bytes_taken = 0
        self.bytes_released = 0
        self.rows_taken = 0
        self.rows_durable = 0
        self.observe: Callable[[list[Row]], None] | None = None
        """Told of the rows of each commit, in the executor's threads."""
        self.error: Exception | None = None
        self.objects = ObjectWriter(store, writer, self.nonce, clock, metrics, retry_for_s, lambda: self.error)
        self.chunks = Chunks(store, writer, nonce=self.nonce, keys=keys, metrics=metrics)
        """Where large buffers go: for `dumps(state, log.chunks)`."""
        self.durable_at = clock.monotonic()
        """When the newest durable commit was begun, by the clock's `monotonic`: then nobody had sealed the log, though
        a process that was stopped meanwhile may hear of it long after (rule 13)."""
        self.took_s = 0.0
        """How long the last commit took."""

    # -- the event loop's side

    def append(
        self,
        coroutine: str,
        epoch: int,
        seq: int,
        kind: int,
        state: bytes,
        token: Any = None,
        consumed: bytes = b"",
        codec: int = Codec.PICKLE,
    ) -> None:
        """Gather a record for the next commit; `token` comes back once it is durable. No I/O. An item becomes durable
        with the record after it: who yields anew after a crash yields perhaps something else. Raises: FencedError or
        LogStoppedError once the log has stopped."""
        if self.error is not None:
            raise self.error
        self.bytes_appended += len(state)
        row = (coroutine, epoch, seq, kind, state, consumed, codec, token)
        if kind == ITEM or self.items:
            self.items.append(row)
            if kind != ITEM:
                self.commit_items()
        else:
            self.rows.append(row)

    def commit_items(self) -> None:
        """Items and the record after them, at once: a thread may take rows at any time."""
        self.rows += self.items
        self.items.clear()

    def commit(self, idle: bool = False) -> None:
        """Start commits for what has gathered, as far as there is room for them. Returns at once, or, when the event
        loop is `idle`, perhaps after the time of a quick commit."""
        self.commit_items()
        if not self.rows or not self.progress.may_start():
            return
        if (
            idle
            and self.took_s < self.here_below_s
            and len(self.rows) <= HERE_RECORDS_MAX
            and not self.chunks.pending.size
            and not self.pace.ahead()
        ):
            self.commit_here()
        else:
            self.executor.submit(self.run_commits)

    def commit_here(self) -> None:
        """Make one commit in this thread. If the store fails, the executor's goes on with it."""
        commit = self.take()
        if commit is None or (data := self.encoded(commit)) is None:
            return
        began = self.clock.monotonic()
        if not commit.packs and self.objects.try_create(segment_name(self.writer, commit.number), data) is None:
            self.durable(commit, data, began, self.call_here)
        else:
            self.executor.submit(self.run_commits, commit)

    @property
    def trouble(self) -> StoreError | None:
        """Why the store is being tried again just now; None while all is well."""
        return self.objects.trouble

    @property
    def full(self) -> bool:
        """Whether so much has gathered or is in flight that yields should wait (back-pressure). Quick to ask."""
        gathered = self.bytes_appended - self.bytes_released + self.chunks.gathered
        awaited = self.rows or self.progress.in_flight  # else no commit would come that ends the pause
        return bool(awaited) and (gathered > self.bytes_max or len(self.rows) > ROWS_MAX)

    def flush(self, timeout_s: float | None = None) -> None:
        """Block until everything gathered so far is durable and its release has been handed to `call_soon`.

        Not for the event loop's thread. Raises: FencedError, LogStoppedError, TimeoutError.
        """
        self.call_soon(self.commit)
        with self.advanced:
            quiet = self.advanced.wait_for(
                lambda: self.error is not None or not (self.items or self.rows or self.progress.in_flight), timeout_s
            )
        if self.error is not None:
            raise self.error
        if not quiet:
            raise TimeoutError(f"the log {self.writer!r} has not become durable in {timeout_s} s")

    def close(self, timeout_s: float | None = None) -> None:
        """Flush, if the log still can, and let go of what `open_log` made."""
        try:
            if self.error is None:
                self.flush(timeout_s)
        finally:
            if self.own_executor is not None:
                self.own_executor.shutdown()

    # -- the janitor's side

    def mark(self) -> None:
        """Commit soon, also if nothing has gathered: the proof that nobody has sealed this log before."""
        with self.advanced:
            self.marks_wanted += 1
            self.advanced.notify_all()
        self.executor.submit(self.run_commits)

    def prove(self, timeout_s: float = PROOF_TIMEOUT_S) -> None:
        """Return once a commit that began after now is durable: nobody has sealed the log before. Not for the event
        loop's thread. Raises: FencedError, LogStoppedError."""
        since = self.progress.next
        self.mark()
        with self.advanced:
            self.advanced.wait_for(lambda: self.error is not None or is_proof(since, self.progress.durable), timeout_s)
        if self.error is not None:
            raise self.error
        if not is_proof(since, self.progress.durable):
            raise LogStoppedError(self.writer, f"no commit became durable for {timeout_s:g} s")

    def durable_tail(self) -> tuple[int, list[int]]:
        """The first number that is not durable yet, and the segments below it that still say something."""
        with self.lock:
            return self.progress.durable, self.tail.saying(self.progress.durable)

    def settle(self, timeout_s: float) -> None:
        """Return once all that had been made for this log before the call, also a state between `dumps` and `append`,
        is durable. Not for the event loop's thread. Raises: FencedError, LogStoppedError."""
        reached: list[int] = []

        def gathered() -> None:
            with self.lock:
                reached.append(self.rows_taken + len(self.rows))
            self.mark()

        self.pace.waived = True
        try:
            self.call_soon(gathered)
            with self.advanced:
                self.advanced.wait_for(
                    lambda: self.error is not None or bool(reached and self.rows_durable >= reached[0]), timeout_s
                )
        finally:
            self.pace.waived = False
        if self.error is not None:
            raise self.error
        if not reached or self.rows_durable < reached[0]:
            raise LogStoppedError(self.writer, f"what was gathered did not become durable for {timeout_s:g} s")

    def forget_tail(self, base: int) -> None:
        """The segments below `base` are replaced."""
        with self.lock:
            self.tail.forget(base)

    # -- the executor's side

    def run_commits(self, commit: Commit | None = None) -> None:
        """Commit until nothing has gathered: one of up to `in_flight` lanes. `commit`: one that was begun already."""
        while (commit := commit or self.take_slowly()) is not None:
            data = self.encoded(commit)
            if data is None:
                return
            began = self.clock.monotonic()
            try:
                self.objects.create_all(self.chunks.encode, commit.packs, commit.number)
                self.objects.create(segment_name(self.writer, commit.number), data, commit.number)
            except (FencedError, LogStoppedError) as error:
                self.stop(error)
                return
            self.durable(commit, data, began)
            commit = None

    def take_slowly(self) -> Commit | None:
        """`take`, after a pause if compaction cannot keep up; without rows, if a mark is wanted meanwhile."""
        waited_for = None
        with self.advanced:
            while self.rows and (pause_s := self.pace.pause_s()) and self.pace.due != waited_for:
                waited_for = self.pace.due  # which is another if another lane has begun a commit meanwhile
                self.advanced.wait_for(lambda: self.marks_wanted or self.error or not self.pace.ahead(), pause_s)
                if self.marks_wanted:
                    return self.begin(held=self.pace.ahead() > 0)
            return self.begin()

    def take(self) -> Commit | None:
        """Begin a commit of the oldest rows, as many as one segment should hold; None if there is nothing to do."""
        with self.lock:
            return self.begin()

    def begin(self, held: bool = False) -> Commit | None:
        """`held`: the rows wait, only a mark may be taken. `append` may add rows meanwhile: it adds at the end."""
        if not (self.marks_wanted or (self.rows and not held)) or not self.progress.may_start():
            return None
        self.marks_wanted = 0  # any commit is a proof
        if held or not self.rows:
            return Commit(self.progress.start(), [MARK_ROW], 0, [])
        size_max = min(SEGMENT_BYTES_MAX, self.pace.limit(self.bytes_taken - self.bytes_released))
        rows, size = oldest(self.rows, SEGMENT_RECORDS_MAX, size_max)
        del self.rows[: len(rows)]
        self.pace.taken()
        self.bytes_taken += size
        self.rows_taken += len(rows)
        number = self.progress.start()
        return Commit(number, rows, size, self.chunks.take(number))

    def encoded(self, commit: Commit) -> bytes | None:
        """The segment; None if it cannot be made, which ends the log."""
        now_ms = max(0, int(self.clock.now() * 1000))  # a clock may be far off
        try:
            return encode(self.writer, commit.number, self.nonce, commit.rows, keys=self.keys, time_ms=now_ms)
        except Exception as error:
            reason = f"segment {commit.number}: {type(error).__name__}: {error}"
            self.stop(LogStoppedError(self.writer, reason))
            return None

    def durable(self, commit: Commit, data: bytes, began: float, release: Callable[..., Any] | None = None) -> None:
        """The segment stands: release what waited for it, and for those before it."""
        commit.stored = len(data)
        self.took_s = self.clock.monotonic() - began
        self.metrics.commit_time.observe(self.took_s)
        self.metrics.segment_bytes.add(len(data))
        with self.advanced:
            released = self.progress.finish(commit.number, commit)
            if released:
                self.durable_at = max(self.durable_at, began)
            tokens: list[Any] = []
            for each in released:
                self.bytes_released += each.size
                beside = sum([pack.size for pack in each.packs])
                self.pace.add(each.stored + beside)
                self.tail.add(each.number, each.stored, each.rows, beside)
                its_tokens = each.tokens
                self.metrics.commit_records.observe(len(its_tokens))
                tokens += its_tokens
                self.rows_durable += len(its_tokens)
                if self.observe is not None:
                    self.observe(each.rows)
            if tokens:
                (release or self.call_soon)(self.on_durable, tokens)  # under the lock: two commits cannot swap places
            self.advanced.notify_all()

    def stop(self, error: Exception) -> None:
        with self.advanced:
            first = not self.progress.stopped
            self.progress.stop()
            if first:
                self.error = error
                self.call_soon(self.on_error, error)
            self.advanced.notify_all()


def open_log(
    store: Store | str,
    writer: str | None = None,
    *,
    on_durable: Callable[[list[Any]], Any] = lambda tokens: None,
    on_error: Callable[[Exception], Any] = lambda error: None,
    clock: Clock = SYSTEM_CLOCK,
    **options: Any,
) -> Log:
    """A log of its own, outside a host: it has its own threads, and `on_durable` is called in them.

    `writer`: a new name, default one that nobody else has. Raises: StoreError.
    Example:
        log = open_log("/data/checkpoints")
        log.append("job", 1, 1, Kind.CHECKPOINT, dumps(state))
        log.flush()
    """
    opened = open_store(store) if isinstance(store, str) else store
    executor = concurrent.futures.ThreadPoolExecutor(
        max_workers=options.get("in_flight") or (REMOTE_IN_FLIGHT if opened.remote else 1), thread_name_prefix="log"
    )
    log = Log(
        opened,
        f"log-{clock.unique()}" if writer is None else writer,
        executor=executor,
        call_soon=lambda fn, *args: fn(*args),
        on_durable=on_durable,
        on_error=on_error,
        clock=clock,
        **options,
    )
    log.own_executor = executor
    return log
