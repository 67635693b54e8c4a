"""What travels when a coroutine begins or moves: its header, its state, and what it has not yet consumed.

A transfer is the payload of the records that give a coroutine a state (`admitted`, `adopted`, `moved`), and of the
call by which the controller hands it to a host. Its bytes are a JSON header and raw state: whoever places, seals or
forwards it never unpickles anything of the user's.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ray_durable.checkpoint.record import Consumed

__all__ = ["STREAMING", "Demands", "Header", "Marks", "Transfer"]

STREAMING = ("generator", "async_generator")  # the kinds of functions that are read as a stream of values

Form = Literal["call", "frames"]


@dataclass(frozen=True, slots=True)
class Demands:
    """What a coroutine asks of the place where it runs, in Ray's words; all zero or empty: any shared host will do."""

    num_cpus: float = 0
    num_gpus: float = 0
    memory: float = 0
    resources: dict[str, float] = field(default_factory=dict)
    label_selector: dict[str, str] = field(default_factory=dict)
    node_id: str | None = None
    soft: bool = True
    spread: bool = False
    runtime_env: dict[str, Any] | None = None

    @property
    def dedicated(self) -> bool:
        """Whether it needs a host of its own, which holds the resources for it."""
        return bool(self.num_cpus or self.num_gpus or self.memory or self.resources)

    @property
    def is_anywhere(self) -> bool:
        """Whether it may be moved just to even out the load."""
        return not self.dedicated and self.node_id is None and not self.label_selector


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a coroutine without its state. `created` is in seconds since the epoch."""

    id: str
    function: str
    name: str | None = None
    namespace: str = "default"
    kind: str = "plain"
    max_retries: int = 0
    retry_exceptions: bool | list[str] = False  # or full names of the classes
    checkpoint_every_s: float | None = None
    keep_history: bool = False
    unread_max: int = -1
    created: float = 0.0
    parent: str | None = None
    demands: Demands = Demands()

    @property
    def streams(self) -> bool:
        """Whether it is read as a stream of values."""
        return self.kind in STREAMING

    def retries(self, error: BaseException) -> bool:
        """Whether the coroutine is to run again after this exception, if it may at all."""
        if isinstance(self.retry_exceptions, bool):
            return self.retry_exceptions
        return any(f"{kind.__module__}.{kind.__qualname__}" in self.retry_exceptions for kind in type(error).__mro__)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Header:
        return cls(**{**data, "demands": Demands(**data["demands"])})


@dataclass(slots=True)
class Marks:
    """How far a checkpoint has come with what flows in and out of its coroutine.

    `events`: number of the newest event that the state holds; `emitted`: values streamed so far; `read`: those that
    the reader has said it has; `retried`: times it was run again after an exception of its own."""

    events: int = 0
    emitted: int = 0
    read: int = 0
    retried: int = 0

    def numbers(self) -> tuple[int, int, int, int]:
        return self.events, self.emitted, self.read, self.retried

    def pack(self) -> bytes:
        """What the log has to know of them; the rest is in the state."""
        return Consumed(self.events, self.emitted, self.read).pack()


@dataclass(frozen=True, slots=True)
class Transfer:
    """One coroutine on its way to a host.

    `form` says what `state` is: a pickled call that has not begun, or pickled frames. `events` are payloads above
    the checkpoint's mark, with their numbers; `items` are streamed values that nobody has read, with their indexes."""

    header: Header
    form: Form
    state: bytes
    epoch: int = 0
    seq: int = 0
    to: str = ""
    marks: Marks = field(default_factory=Marks)
    events: tuple[tuple[int, bytes], ...] = ()
    items: tuple[tuple[int, bytes], ...] = ()

    def planned(self, epoch: int, to: str) -> Transfer:
        return replace(self, epoch=epoch, to=to)

    def encode(self) -> bytes:
        parts = [self.state, *(data for _, data in self.events), *(data for _, data in self.items)]
        head = json.dumps(
            {
                "header": self.header.to_json(),
                "form": self.form,
                "epoch": self.epoch,
                "seq": self.seq,
                "to": self.to,
                "marks": self.marks.numbers(),
                "events": [number for number, _ in self.events],
                "items": [index for index, _ in self.items],
                "sizes": [len(part) for part in parts],
            }
        ).encode()
        return b"".join([struct.pack("<I", len(head)), head, *parts])

    @classmethod
    def decode(cls, data: bytes) -> Transfer:
        (size,) = struct.unpack_from("<I", data)
        head = json.loads(data[4 : 4 + size])
        parts, offset = [], 4 + size
        for length in head["sizes"]:
            parts.append(bytes(data[offset : offset + length]))
            offset += length
        events, items = head["events"], head["items"]
        return cls(
            header=Header.from_json(head["header"]),
            form=head["form"],
            state=parts[0],
            epoch=head["epoch"],
            seq=head["seq"],
            to=head["to"],
            marks=Marks(*head["marks"]),
            events=tuple(zip(events, parts[1:], strict=False)),
            items=tuple(zip(items, parts[1 + len(events) :], strict=True)),
        )
