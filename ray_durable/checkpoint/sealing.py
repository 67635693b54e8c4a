"""Ending another's log: the seal goes to its lowest free number, with the plan that follows from what the log holds.

The owner may still be writing. Each time it is quicker, the log is longer and the plan is made anew, from what now
counts. Invariant: on return exactly one seal counts for this log, whoever made it, and nobody can add a record to it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray_durable.checkpoint.fencing import Seal, SealedBy, TryAgain, Written, WroteOneMore, after_seal, seal_is_void
from ray_durable.checkpoint.keys import NO_KEYS, Keys
from ray_durable.checkpoint.names import log_prefix, parse_log_object, segment_name
from ray_durable.checkpoint.reading import Reading, read_log
from ray_durable.checkpoint.record import Codec, Kind
from ray_durable.checkpoint.recovery import Recovery, fold_reading
from ray_durable.checkpoint.segment import Footer, Form, decode, encode
from ray_durable.checkpoint.stores import Store
from ray_durable.clock import SYSTEM_CLOCK, Clock
from ray_durable.errors import AlreadyExists, NotFoundError, StoreError

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

    `plan`: what the seal says besides (a mapping is stored as JSON), or a function that makes it from the log's
    contents, called again whenever the owner has written more. When the log is sealed already, by `sealer` before or by
    another, that seal is returned as it is. Once this returns, the owner can commit nothing more.
    Raises: StoreError when the store fails for `retry_for_s`.
    Example: sealed = seal(store, "host-1", "controller-7", lambda log: plan_for(log.coroutines))
    """
    nonce = os.urandom(16) if clock is SYSTEM_CLOCK else bytes.fromhex(clock.unique())
    began = clock.monotonic()
    while True:
        failure: StoreError | None = None
        try:
            recovery = fold_reading(read(store, writer, keys=keys))
            if recovery.sealed is not None:
                found = recovery.sealed
                return Sealed(writer, found.sealer, recovery.length, found.digest, found.plan, recovery)
            wanted = Seal(sealer, recovery.length, recovery.base, recovery.digest, packed(plan, recovery))
            match try_seal(store, writer, wanted, nonce, keys):
                case Written() if not seal_is_void(wanted.length, bases(store, writer)):
                    recovery.sealed = wanted
                    return Sealed(writer, sealer, wanted.length, wanted.digest, wanted.plan, recovery)
                case Written() | WroteOneMore() | SealedBy():
                    continue  # read it: what is there now decides
                case TryAgain():
                    pass
        except StoreError as error:
            failure = error
        if clock.monotonic() - began > retry_for_s:
            raise failure or StoreError("seal", log_prefix(writer), f"the store failed for {retry_for_s:g} s")
        clock.sleep(PAUSE_S * (0.5 + clock.random()))


def packed(plan: Plan | Callable[[Recovery], Plan], recovery: Recovery) -> bytes:
    made = plan(recovery) if callable(plan) else plan
    return json.dumps(dict(made)).encode() if isinstance(made, Mapping) else bytes(made)


def try_seal(
    store: Store, writer: str, wanted: Seal, nonce: bytes, keys: Keys
) -> Written | TryAgain | WroteOneMore | SealedBy:
    name = segment_name(writer, wanted.length)
    row = ("", 0, wanted.length, int(Kind.SEAL), wanted.pack(), b"", int(Codec.OPAQUE), None)
    data = encode(writer, wanted.length, nonce, [row], Form.SEAL, keys)
    try:
        store.create(name, data)
        return after_seal(False, None, None, nonce)
    except AlreadyExists:
        pass
    except StoreError:
        try:
            store.read(name, -1)
        except NotFoundError:
            return TryAgain()
    found, seal = read_found(store, name, keys)
    return after_seal(True, found, seal, nonce)


def read_found(store: Store, name: str, keys: Keys) -> tuple[Footer | None, Seal | None]:
    try:
        segment = decode(name, store.read(name), keys)
    except NotFoundError:
        return None, None
    except StoreError:  # damaged, or not to be read now: the next reading of the log says which
        return None, None
    if segment.footer.form is not Form.SEAL:
        return segment.footer, None
    return segment.footer, Seal.unpack(segment.state(0))


def bases(store: Store, writer: str) -> list[int]:
    prefix = log_prefix(writer)
    found = (parse_log_object(listed.name.removeprefix(prefix)) for listed in store.list(prefix))
    return [each.number for each in found if each is not None and each.base]
