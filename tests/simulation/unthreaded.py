"""Running without threads: whatever would go to one happens on the loop, so that one seed is one world."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from unittest.mock import patch

from ray_durable.checkpoint.janitor import Janitor
from ray_durable.clock import SYSTEM_CLOCK


@contextlib.contextmanager
def without_threads():
    """Whatever would go to a thread happens on the loop, so that one seed is one world."""
    with contextlib.ExitStack() as patches:
        patches.enter_context(patch("asyncio.to_thread", inline))
        patches.enter_context(patch("ray_durable.actors.rebuild.ThreadPoolExecutor", OneByOne))
        patches.enter_context(patch("ray_durable.checkpoint.reading.ThreadPoolExecutor", OneByOne))
        patches.enter_context(patch.object(SYSTEM_CLOCK.__class__, "sleep", lambda self, seconds: None))
        yield


async def inline(fn, *args, **kwargs):
    """In the place of `asyncio.to_thread`: blocking work takes its time, and then happens at once."""
    await asyncio.sleep(0.02)
    return fn(*args, **kwargs)


class OneByOne:
    """In the place of a pool of threads: threads would roll the dice in an order of their own."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    map = staticmethod(map)


@contextlib.contextmanager
def eagerly_small():
    """Logs are compacted all the time, and by partitions though they are small: a store that fails leaves them half
    done."""
    with (
        patch("ray_durable.actors.housekeeping.Janitor", Eager),
        patch("ray_durable.checkpoint.compaction.PARTITION_BYTES", 2_000),
    ):
        yield


class Eager(Janitor):
    """Compacts whenever it can, whatever it is told."""

    def __post_init__(self):
        super().__post_init__()
        self.policy = replace(self.policy, garbage_bytes_min=1, garbage_ratio=0.3, tail_segments_max=4)

    def compact(self):
        super().compact()
        self.log.store.world.met.add("compacted")


class OneThread:
    """Stands for a log's condition: nobody else can be in, and nobody is woken. How to wait is for who derives it."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def notify_all(self):
        pass

    def wait_for(self, predicate, timeout=None):
        raise NotImplementedError
