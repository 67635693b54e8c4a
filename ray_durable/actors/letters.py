"""What a coroutine is sent, on its way from a durable record to the branch that waits for it; cancellations too, which
are messages, so that an acknowledged one outlives the host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from ray_durable.actors import leaving
from ray_durable.actors.arranging import take_message
from ray_durable.actors.hosted import Hosted
from ray_durable.actors.mailbox import CANCEL, Message
from ray_durable.checkpoint.codec import dumps
from ray_durable.checkpoint.record import Kind
from ray_durable.concurrency.tasks import task_of
from ray_durable.errors import CoroutineCancelled

if TYPE_CHECKING:
    from ray_durable.actors.engine import Engine

__all__ = ["arrive", "cancel", "deliver", "log_event", "take_cancellation"]


def cancel(engine: Engine, id: str, accepted: Callable[[bool], None]) -> None:
    """See `Engine.cancel`."""
    hosted = engine.coroutines.get(id)
    message = Message(CANCEL, 0 if hosted is None else hosted.events + 1, CANCEL, b"")
    deliver(engine, id, message, dumps(message), accepted)


def deliver(engine: Engine, id: str, message: Message, payload: bytes, accepted: Callable[[bool], None]) -> None:
    """See `Engine.deliver`."""
    hosted = engine.coroutines.get(id)
    if hosted is None or hosted.coroutine.host is None or hosted.leaving is not None:
        accepted(False)
        return
    if hosted.mailbox is not None and not hosted.mailbox.is_new(message):
        accepted(True)
        return
    hosted.events += 1
    number = hosted.events
    hosted.arriving.add(number)

    def arrived() -> None:
        engine.tally.messages += 1
        arrive(engine, hosted, number, payload)
        accepted(True)

    engine.log.append(id, hosted.epoch, number, Kind.EVENT, payload, arrived)
    engine.schedule()


def log_event(engine: Engine, hosted: Hosted, payload: bytes) -> None:
    """See `Engine.log_event`."""
    hosted.events += 1
    hosted.mark_events()
    hosted.plain = False
    if hosted.last is not None:
        hosted.since.append((hosted.events, payload))
    engine.log.append(hosted.header.id, hosted.epoch, hosted.events, Kind.EVENT, payload)
    engine.schedule()


def arrive(engine: Engine, hosted: Hosted, number: int, payload: bytes) -> None:
    """An event is durable: it is part of the state from now on, and whoever waits for it has it."""
    hosted.apply_event(number, payload)
    if hosted.coroutine.host is None:
        return
    if hosted.leaving is not None:
        leaving.try_leave(engine, hosted)
        return
    main = hosted.coroutine.main
    driver = main.driver
    if (main.parked or (driver is not None and driver.foreign)) and take_cancellation(engine, hosted):
        return
    for branch in hosted.coroutine.branches():
        if branch.parked:
            take_message(engine, branch)


def take_cancellation(engine: Engine, hosted: Hosted) -> bool:
    """Throw a cancellation that is here into the main branch, which stands at a yield point. Whether there was one."""
    mailbox, main = hosted.mailbox, hosted.coroutine.main
    if mailbox is None or mailbox.take(CANCEL) is None:
        return False
    text = f"coroutine {hosted.header.id} was cancelled"
    error = asyncio.CancelledError(text) if main.is_async else CoroutineCancelled(hosted.header.id)
    if main.is_async and main.parked:
        task_of(main).cancel(text)  # what it waits for (a `gather`, say) is cancelled with it
    elif main.parked:
        main.call_off()
        engine.wake(main, None, error)
    else:
        main.driver.interrupt(text)
    return True
