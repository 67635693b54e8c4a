"""Messages and results on their way into one coroutine, each taken exactly once.

What arrives is first a durable `event` record, then part of the mailbox; the next checkpoint holds the mailbox and the
number of the newest event in it, so that recovery knows which events it must still apply. A sender numbers its
messages; the mark per sender drops those that come twice (rule 15).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CANCEL", "Mailbox", "Message"]

CANCEL = "\0cancel"  # sender and topic of cancellations
SENDERS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `payload` is the pickled value, opened only when the coroutine takes it."""

    sender: str
    number: int
    topic: str
    payload: bytes


@dataclass(slots=True)
class Mailbox:
    """Plain data, pickled with the state of its coroutine."""

    waiting: dict[str, deque[bytes]] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)

    def is_new(self, message: Message) -> bool:
        return message.number > self.marks.get(message.sender, 0)

    def put(self, message: Message) -> bool:
        """Whether it was new; one that has been here before is dropped."""
        if not self.is_new(message):
            return False
        self.marks.pop(message.sender, None)
        self.marks[message.sender] = message.number  # at the end: the senders heard last are remembered
        if len(self.marks) > SENDERS_MAX:
            del self.marks[next(iter(self.marks))]
        self.waiting.setdefault(message.topic, deque()).append(message.payload)
        return True

    def take(self, topic: str) -> bytes | None:
        """The oldest payload under `topic`, or None."""
        queue = self.waiting.get(topic)
        if not queue:
            return None
        payload = queue.popleft()
        if not queue:
            del self.waiting[topic]
        return payload

    def encode(self) -> Any:
        return {topic: list(queue) for topic, queue in self.waiting.items()}, dict(self.marks)

    @classmethod
    def decode(cls, data: Any) -> Mailbox:
        waiting, marks = data
        return cls({topic: deque(queue) for topic, queue in waiting.items()}, marks)
