"""Every `durable_*` metric, declared once: name, kind, unit, labels from closed sets, help; and what to count with.

Declares and counts; `actors.exporter` serves. A process has one `Metrics`, made with its node and host, which every
sample carries. The instruments are ours, for two reasons: a host counts per batch, so a histogram must take one value
`n` times at the cost of one, and a gauge or counter must be able to follow a plain number that the hot loop keeps
anyway (`follow`). Adding and observing only note what is to be counted, without a lock, and happen once per commit, not
once per yield; noted values are counted when somebody asks, or there are many.

Labels never hold ids of coroutines. `function` is the one open label; beyond `FUNCTIONS_MAX` names, further ones are
counted as `(other)`, so that generated functions cannot flood Prometheus.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["NO_METRICS", "Counter", "Declaration", "Gauge", "Histogram", "Label", "Metrics", "declarations"]

FUNCTIONS_MAX = 200
NOTED_MAX = 256
OTHER = "(other)"


@dataclass(frozen=True, slots=True)
class Label:
    """A label and the values that it may take; `values` is None for an open one, whose number is capped."""

    name: str
    values: tuple[str, ...] | None = None


FUNCTION = Label("function")
STATE = Label("state", ("pending", "ready", "waiting", "moving"))
OUTCOME = Label("outcome", ("completed", "failed", "cancelled"))
REASON = Label(
    "reason", ("node_died", "host_died", "host_hung", "node_draining", "rebalance", "requested", "cold_start")
)
PHASE = Label("phase", ("detect", "seal", "adopt", "total"))
DETECTION = Label("kind", ("call_failed", "connection_lost", "silence", "node_gone", "host_said"))
RETRY = Label("kind", ("function", "call", "store"))
ROLE = Label("role", ("host", "controller"))
OPERATION = Label("operation", ("create", "read", "list", "delete", "overwrite"))
CHUNK = Label("outcome", ("written", "reused"))
COMPACTED = Label("outcome", ("rewritten", "deleted"))
HOST_STATE = Label("state", ("alive", "suspect", "draining"))
RECOVERY = Label("cause", ("takeover", "cold_start"))

# Upper bounds. A local durable commit takes 0.6-1 ms, a remote one 20-100 ms, Ray's own detection 13 s.
LATENCIES_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
PHASES_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 15.0, 30.0, 60.0)
RECORDS = (1.0, 4.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a metric is. `name` is its family's name as Prometheus shows it, with `_total` for a counter."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    text: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()

    def children(self) -> Iterator[tuple[str, ...]]:
        """Label values known beforehand: every combination of closed sets, shown from the start with 0."""
        combinations: list[tuple[str, ...]] = [()]
        for label in self.labels:
            combinations = [(*c, value) for c in combinations for value in label.values or ()]
        yield from combinations


class Instrument:
    """What the three kinds share: which children (label values) exist. All methods may be called from any thread."""

    def __init__(self, declaration: Declaration, on: bool) -> None:
        self.declaration = declaration
        self.on = on
        self.lock = threading.Lock()
        self.noted: deque[tuple[float, int, tuple[str, ...]]] = deque()  # value, how often, label values
        self.seen: list[set[str]] = [set() for _ in declaration.labels]
        self.known: set[tuple[str, ...]] = set()

    def admit(self, given: tuple[str, ...]) -> tuple[str, ...]:
        """The child that `given` label values are counted under; called when they are met for the first time."""
        labels = self.declaration.labels
        assert len(given) == len(labels), f"{self.declaration.name} takes labels {[label.name for label in labels]}"
        admitted = []
        for label, value, seen in zip(labels, given, self.seen, strict=True):
            assert label.values is None or value in label.values, f"{self.declaration.name}: {label.name}={value!r}"
            if label.values is None and value not in seen and len(seen) >= FUNCTIONS_MAX:
                value = OTHER
            seen.add(value)
            admitted.append(value)
        return tuple(admitted)

    def note(self, value: float, n: int, labels: tuple[str, ...]) -> None:
        """Have `value` counted `n` times, later. The hot path's part: a look-up and an append, without the lock."""
        if labels not in self.known:
            with self.lock:
                labels = self.admit(labels)  # names beyond the cap come here again, as `OTHER`
                self.known.add(labels)
        self.noted.append((value, n, labels))
        if len(self.noted) > NOTED_MAX:
            with self.lock:
                self.count_noted()

    def count_noted(self) -> None:
        """Count what was noted; the caller holds the lock."""
        while self.noted:
            self.count(*self.noted.popleft())

    def count(self, value: float, n: int, labels: tuple[str, ...]) -> None:
        raise NotImplementedError


class Value(Instrument):
    """A counter's or a gauge's numbers, one per child, counted or followed."""

    def __init__(self, declaration: Declaration, on: bool) -> None:
        super().__init__(declaration, on)
        self.values: dict[tuple[str, ...], float] = dict.fromkeys(declaration.children(), 0)
        self.followed: dict[tuple[str, ...], Callable[[], float]] = {}

    def follow(self, read: Callable[[], float], *labels: str) -> None:
        """From now on show what `read()` gives at each scrape: the hot path keeps a plain number and calls nothing.

        `read` is called in the exporter's thread; it must be quick and take no lock that is held for long.
        """
        if self.on:
            with self.lock:
                self.followed[self.admit(labels)] = read

    def count(self, value: float, n: int, labels: tuple[str, ...]) -> None:
        self.values[labels] = self.values.get(labels, 0) + value * n

    def samples(self) -> dict[tuple[str, ...], float]:
        with self.lock:
            self.count_noted()
            values, followed = dict(self.values), dict(self.followed)
        values.update({labels: read() for labels, read in followed.items()})
        return values


class Counter(Value):
    """A number that only grows: `add`, or `follow` one that grows."""

    def add(self, n: float = 1, *labels: str) -> None:
        """Add `n` to the child with these label values, given in the order of the declaration."""
        if self.on:
            self.note(n, 1, labels)


class Gauge(Value):
    """A number that goes up and down: `set`, or `follow`."""

    def set(self, value: float, *labels: str) -> None:
        if self.on:
            with self.lock:
                self.values[self.admit(labels)] = value


@dataclass(slots=True)
class Distribution:
    """One histogram child: how many values fell into each bucket (not cumulative; the last is +Inf), and their sum."""

    counts: list[int]
    sum: float = 0.0


class Histogram(Instrument):
    """A distribution of values over fixed buckets."""

    def __init__(self, declaration: Declaration, on: bool) -> None:
        super().__init__(declaration, on)
        assert list(declaration.buckets) == sorted(declaration.buckets), declaration.name
        self.buckets = declaration.buckets
        self.children = {labels: self.empty() for labels in declaration.children()}

    def empty(self) -> Distribution:
        return Distribution([0] * (len(self.buckets) + 1))

    def observe(self, value: float, n: int = 1, *labels: str) -> None:
        """Count `value` `n` times, for `n` coroutines that shared one turn or one commit; costs the same as once."""
        if self.on:
            self.note(value, n, labels)

    def count(self, value: float, n: int, labels: tuple[str, ...]) -> None:
        child = self.children.get(labels)
        if child is None:
            child = self.children.setdefault(labels, self.empty())
        child.counts[bisect_left(self.buckets, value)] += n
        child.sum += value * n

    def samples(self) -> dict[tuple[str, ...], Distribution]:
        with self.lock:
            self.count_noted()
            return {labels: Distribution(list(child.counts), child.sum) for labels, child in self.children.items()}


def counter(name: str, unit: str, text: str, *labels: Label) -> Any:
    return Declaration(name, "counter", unit, text, labels)


def gauge(name: str, unit: str, text: str, *labels: Label) -> Any:
    return Declaration(name, "gauge", unit, text, labels)


def histogram(name: str, unit: str, text: str, *labels: Label, buckets: tuple[float, ...] = LATENCIES_S) -> Any:
    return Declaration(name, "histogram", unit, text, labels, buckets)


class Metrics:
    """All instruments of one process. `node` and `host` are on every sample; `on=False` makes each call do nothing.

    The table below is the class body; an instance holds an instrument under each name.
    Example:
        metrics = Metrics(node="7d3c01", host="host-2")
        metrics.checkpoints.add(128, "indexer.index_package")
        metrics.coroutines.follow(lambda: len(ready), "ready")
    """

    # Checkpoints, by hosts: once per commit.
    checkpoints: Counter = counter(
        "durable_checkpoints_total", "checkpoints", "Checkpoints that became durable.", FUNCTION
    )
    checkpoint_bytes: Counter = counter(
        "durable_checkpoint_bytes_total", "bytes", "State in durable checkpoints, before compression.", FUNCTION
    )
    checkpoint_latency: Histogram = histogram(
        "durable_checkpoint_latency_seconds", "seconds", "Time from a yield until its checkpoint is durable."
    )
    commit_records: Histogram = histogram(
        "durable_commit_records", "records", "Records in one segment: the size of a group commit.", buckets=RECORDS
    )
    commit_time: Histogram = histogram(
        "durable_commit_seconds", "seconds", "Time that the store takes to make one segment durable."
    )
    segment_bytes: Counter = counter("durable_segment_bytes_total", "bytes", "Bytes of segments written.")
    serialization: Counter = counter(
        "durable_serialization_seconds_total", "seconds", "Time spent on capturing and pickling frames."
    )
    chunks: Counter = counter(
        "durable_chunks_total", "chunks", "Chunks of large buffers: written, or found stored already.", CHUNK
    )
    chunk_bytes: Counter = counter(
        "durable_chunk_bytes_total", "bytes", "Bytes of such chunks: written, or saved by reuse.", CHUNK
    )
    cannot_save: Counter = counter(
        "durable_cannot_save_total", "errors", "Yields at which a local could not be saved.", FUNCTION
    )

    # Coroutines, by hosts; `pending` (admitted, with no host yet) by the controller.
    coroutines: Gauge = gauge("durable_coroutines", "coroutines", "Unfinished coroutines held here, by state.", STATE)
    started: Counter = counter("durable_started_total", "coroutines", "Coroutines begun.", FUNCTION)
    finished: Counter = counter("durable_finished_total", "coroutines", "Coroutines ended.", FUNCTION, OUTCOME)
    recoveries: Counter = counter(
        "durable_recoveries_total", "coroutines", "Coroutines resumed from the store, by what made it needed.", RECOVERY
    )
    ready_delay: Histogram = histogram(
        "durable_ready_delay_seconds", "seconds", "Time that a ready coroutine waits for its turn."
    )
    oldest_ready: Gauge = gauge(
        "durable_oldest_ready_seconds", "seconds", "Age of the coroutine that has been ready the longest; 0 if none is."
    )
    loop_lag: Histogram = histogram(
        "durable_loop_lag_seconds", "seconds", "Delay of the event loop: how late a short timer fires."
    )
    messages: Counter = counter("durable_messages_total", "messages", "Messages made durable for coroutines.")
    stream_items: Counter = counter("durable_stream_items_total", "items", "Values that generators have streamed out.")
    retries: Counter = counter(
        "durable_retries_total",
        "retries",
        "Tries again: of a user's function, of a Ray call, of a store request.",
        RETRY,
    )

    # Store, by whoever uses it.
    store_requests: Counter = counter(
        "durable_store_requests_total", "requests", "Requests to the object store.", OPERATION
    )
    store_errors: Counter = counter(
        "durable_store_errors_total", "errors", "Requests that failed; a create that met an object is none.", OPERATION
    )
    store_time: Histogram = histogram(
        "durable_store_request_seconds", "seconds", "Time that one store request takes.", OPERATION
    )
    compactions: Counter = counter("durable_compactions_total", "compactions", "Compactions carried out.")
    compactions_refused: Counter = counter(
        "durable_compactions_refused_total",
        "compactions",
        "Compactions that the store refused. They are tried again; until one succeeds, quick writers are slowed down.",
    )
    compacted_segments: Counter = counter(
        "durable_compacted_segments_total", "segments", "Segments that compaction rewrote or deleted.", COMPACTED
    )
    archived: Counter = counter("durable_archived_total", "coroutines", "Finished coroutines moved to an archive.")
    log_segments: Gauge = gauge(
        "durable_log_segments",
        "segments",
        "Segments that this process's log has in the store since its last compaction.",
    )
    log_bytes: Gauge = gauge("durable_log_bytes", "bytes", "Bytes of those segments.")

    # Membership and moves, by the controller.
    hosts: Gauge = gauge("durable_hosts", "hosts", "Hosts that the controller knows, by state.", HOST_STATE)
    admissions: Counter = counter("durable_admissions_total", "coroutines", "Coroutines admitted.", FUNCTION)
    migrations: Counter = counter(
        "durable_migrations_total", "coroutines", "Coroutines adopted by another host than before, by reason.", REASON
    )
    takeovers: Counter = counter("durable_takeovers_total", "takeovers", "Takeovers of a dead or silent host's log.")
    takeover_time: Histogram = histogram(
        "durable_takeover_seconds", "seconds", "Time that each phase of a takeover takes.", PHASE, buckets=PHASES_S
    )
    detections: Counter = counter(
        "durable_detections_total", "detections", "Hosts found dead, by the sign that showed it first.", DETECTION
    )
    fenced_writers: Counter = counter(
        "durable_fenced_writers_total", "writers", "Writers that met a seal on their own log, and stopped.", ROLE
    )
    rebuilds: Counter = counter(
        "durable_controller_rebuilds_total", "rebuilds", "Times that a controller rebuilt its map from hosts and logs."
    )

    def __init__(self, node: str = "", host: str = "", on: bool = True) -> None:
        self.node, self.host, self.on = node, host, on
        self.instruments: list[Counter | Gauge | Histogram] = []
        kinds: dict[str, type[Counter | Gauge | Histogram]] = {
            "counter": Counter,
            "gauge": Gauge,
            "histogram": Histogram,
        }
        for attribute, declaration in vars(Metrics).items():
            if isinstance(declaration, Declaration):
                instrument = kinds[declaration.kind](declaration, on)
                self.instruments.append(instrument)
                setattr(self, attribute, instrument)


def declarations() -> list[Declaration]:
    """The table of all metrics, in order."""
    return [declaration for declaration in vars(Metrics).values() if isinstance(declaration, Declaration)]


NO_METRICS = Metrics(on=False)
