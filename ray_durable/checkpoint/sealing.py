"""Ending another's log: a seal at its lowest free number, then the plan that follows from what the log holds.

First the seal: from then on nobody can add a record. Then, in peace, the log is read, and one create-only object beside
the seal says who gets which coroutine. A sealer that dies in between leaves a log without a plan, which the next one
makes. Invariant: on return exactly one seal and one plan count for this log, whoever made them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray_durable.checkpoint.fencing import (
    Seal,
    SealedBy,
    TryAgain,
    Written,
    WroteOneMore,
    after_seal,
    first_free,
)
from ray_durable.checkpoint.footer import FOOTER_BYTES, Footer, Form, read_footer, wrap
from ray_durable.checkpoint.keys import NO_KEYS, Keys
from ray_durable.checkpoint.names import log_prefix, plan_name, segment_name
from ray_durable.checkpoint.reading import NO_BASE, CompactedMeanwhile, LogReader, Reading, decode_plan, read_log
from ray_durable.checkpoint.record import Codec, Kind
from ray_durable.checkpoint.recovery import Recovery, fold_reading
from ray_durable.checkpoint.segment import encode
from ray_durable.checkpoint.stores import Store
from ray_durable.checkpoint.writing import WRITER_BYTES_MAX
from ray_durable.clock import SYSTEM_CLOCK, Clock
from ray_durable.errors import DamagedError, NotFoundError, StoreError

Plan = bytes | Mapping[str, Any]
PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class Sealed:
    """A log's end. `sealer`: whose seal counts, which need not be the caller; `recovery`: the contents it ends."""

    writer: str
    sealer: str
    length: int
    digest: bytes
    plan: bytes
    recovery: Recovery


def seal(
    store: Store,
    writer: str,
    sealer: str,
    plan: Plan | Callable[[Recovery], Plan],
    *,
    keys: Keys = NO_KEYS,
    clock: Clock = SYSTEM_CLOCK,
    retry_for_s: float = 30.0,
    read: Callable[..., Reading] = read_log,
) -> Sealed:
    """End a log for good, and return the seal that counts.

    `plan`: what the seal says besides (a mapping is stored as JSON), or a function that makes it from the log's final
    contents. When the log has a plan already, by `sealer` before or by another, that is returned as it is.
    Once this returns, the owner can commit nothing more.
    Raises: StoreError when the store fails for `retry_for_s`.
    Example: sealed = seal(store, "host-1", "controller-7", lambda log: plan_for(log.coroutines))
    """
    nonce = os.urandom(16) if clock is SYSTEM_CLOCK else bytes.fromhex(clock.unique())
    began = clock.monotonic()
    attempt = Sealing(store, writer, sealer, nonce, keys)
    while True:
        try:
            if attempt.fence():
                recovery = fold_reading(read(store, writer, keys=keys))
                if recovery.fenced:
                    return attempt.decide(recovery, plan)
            continue
        except NotDone as error:
            failure = StoreError("seal", log_prefix(writer), f"not done in {retry_for_s:g} s")
            failure.__cause__ = error
        except StoreError as error:
            failure = error
        if clock.monotonic() - began > retry_for_s:
            raise failure
        clock.sleep(PAUSE_S * (0.5 + clock.random()))


class NotDone(Exception):
    """A signal to try again, never seen outside: a create failed and left nothing."""


@dataclass(slots=True)
class Sealing:
    """One sealer's attempts at one log."""

    store: Store
    writer: str
    sealer: str
    nonce: bytes
    keys: Keys

    def fence(self) -> bool:
        """Put the seal at the lowest free number. It says nothing of the log's contents, so that an attempt takes one
        create, as the owner's does: a sealer who read and planned first would never catch up with a quick owner.
        Whether a seal is there now; whether it counts shows when the log is read after: compaction may have freed this
        number while we were slow, and then a base stands above it. Raises: NotDone, StoreError."""
        number = self.first_free()
        if number is None:
            return True
        while True:
            match self.try_seal(number):
                case SealedBy() | Written():
                    return True
                case WroteOneMore():
                    number += 1
                case TryAgain():
                    raise NotDone

    def first_free(self) -> int | None:
        """The number at which a seal belongs; None if the last object that counts is one."""
        base, numbers = listed_numbers(self.store, self.writer)
        free = first_free(base, numbers)
        if free > base and self.read_back(segment_name(self.writer, free - 1)).form is Form.SEAL:
            return None
        return free

    def read_back(self, name: str) -> Footer:
        return read_footer(name, self.store.read(name, -(FOOTER_BYTES + WRITER_BYTES_MAX)))

    def try_seal(self, number: int) -> Written | TryAgain | WroteOneMore | SealedBy:
        name = segment_name(self.writer, number)
        row = ("", 0, number, int(Kind.SEAL), self.sealer.encode(), b"", int(Codec.OPAQUE), None)
        try:
            self.store.create(name, encode(self.writer, number, self.nonce, [row], Form.SEAL, self.keys))
            return after_seal(False, None, False, self.nonce)
        except StoreError:
            try:
                return after_seal(True, self.read_back(name), False, self.nonce)
            except NotFoundError:
                return after_seal(True, None, False, self.nonce)
            except DamagedError:
                return after_seal(True, None, True, self.nonce)

    def decide(self, recovery: Recovery, plan: Plan | Callable[[Recovery], Plan]) -> Sealed:
        """The plan for a log that nobody can add to any more: ours, unless one is there. Raises: StoreError."""
        if recovery.sealed is None:
            number = recovery.length
            made = packed(plan, recovery)
            wanted = Seal(self.sealer, number, recovery.base, recovery.revision, recovery.digest, made)
            data = wrap(self.writer, number, self.nonce, wanted.pack(), Form.PLAN, self.keys)
            name = plan_name(self.writer, number)
            try:
                self.store.create(name, data)
            except StoreError:  # another's stands there, or ours, or none: what is read decides
                try:
                    wanted = decode_plan(name, self.store.read(name), self.keys)
                except NotFoundError:
                    raise NotDone from None
            recovery.sealed = wanted
        found = recovery.sealed
        return Sealed(self.writer, found.sealer, found.length, found.digest, found.plan, recovery)


def packed(plan: Plan | Callable[[Recovery], Plan], recovery: Recovery) -> bytes:
    made = plan(recovery) if callable(plan) else plan
    return json.dumps(dict(made)).encode() if isinstance(made, Mapping) else bytes(made)


def listed_numbers(store: Store, writer: str) -> tuple[int, set[int]]:
    """The newest base's number and those above it. A gap is believed if a second listing shows it (see `reading`)."""
    reader = LogReader(store, writer, map, NO_KEYS)
    while True:
        try:
            found, numbers = reader.list_twice_if_gap()
            return max(found, default=NO_BASE)[0], numbers
        except CompactedMeanwhile:
            continue
