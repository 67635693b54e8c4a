"""What a create, a seal and a take-over have come to: the decisions of PROTOCOL's rules 1, 3, 6 and 7, without effects.

A reply cannot be trusted: a create that raised may have succeeded, and one that says "exists" may have met our own
retry. So whoever creates reads back, and decides here by what was found.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Collection
from dataclasses import dataclass

from ray_durable.checkpoint.footer import Footer, Form

IN_FLIGHT_MAX = 16
"""Of commits: a number that is missing below so many later ones has gone."""
SEALED_BY_DAMAGE = "an object that cannot be read"


@dataclass(frozen=True, slots=True)
class Written:
    """The object is there and ours."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Nothing is there: the create did not happen (or not yet; then the next one will meet it)."""


@dataclass(frozen=True, slots=True)
class Fenced:
    """The number is another's. The log is over for its writer."""

    by: str


@dataclass(frozen=True, slots=True)
class WroteOneMore:
    """The owner was quicker than the sealer: the seal goes one number higher."""


@dataclass(frozen=True, slots=True)
class SealedBy:
    """The log has a seal: ours from before, or another sealer's."""


def after_create(failed: bool, found: Footer | None, damaged: bool, nonce: bytes) -> Written | TryAgain | Fenced:
    """What one attempt to create a segment has come to; `found` is what reading that number showed."""
    if not failed or (found is not None and found.nonce == nonce):
        return Written()  # a retry may have met our own success
    if damaged:
        return Fenced(SEALED_BY_DAMAGE)
    return TryAgain() if found is None else Fenced(found.writer)


def after_seal(
    failed: bool, found: Footer | None, damaged: bool, nonce: bytes
) -> Written | TryAgain | WroteOneMore | SealedBy:
    """What one attempt to create a seal has come to; `found` is what reading that number showed."""
    if not failed or (found is not None and found.nonce == nonce):
        return Written()
    if damaged:
        return WroteOneMore()  # a segment that cannot be read has its number all the same
    if found is None:
        return TryAgain()
    return SealedBy() if found.form is Form.SEAL else WroteOneMore()


def first_free(base: int, numbers: Collection[int]) -> int:
    """The lowest number that a log which begins at `base` does not have: where it ends, and where a seal goes."""
    free = base
    while free in numbers:
        free += 1
    return free


def is_proof(since: int, durable: int) -> bool:
    """Whether a log's owner knows that nobody had sealed it at a moment when its next segment was to be number `since`:
    only once that segment, or a later one, is durable. It is asked for before anything is done that a sealer who came
    earlier would contradict: deleting what a base replaces (rule 6), and all that rule 19 names."""
    return durable > since


@dataclass(frozen=True, slots=True)
class Seal:
    """The end of a log with its plan. `digest` covers the objects from `base` up to `length` that count."""

    sealer: str
    length: int
    base: int
    revision: int
    digest: bytes
    plan: bytes

    def pack(self) -> bytes:
        head = json.dumps(
            {
                "sealer": self.sealer,
                "length": self.length,
                "base": self.base,
                "revision": self.revision,
                "digest": self.digest.hex(),
            }
        ).encode()
        return struct.pack("<I", len(head)) + head + self.plan

    @classmethod
    def unpack(cls, data: bytes) -> Seal:
        """Raises: ValueError for bytes that `pack` does not make."""
        try:
            (size,) = struct.unpack_from("<I", data)
            head = json.loads(data[4 : 4 + size])
            return cls(
                str(head["sealer"]),
                int(head["length"]),
                int(head["base"]),
                int(head["revision"]),
                bytes.fromhex(head["digest"]),
                data[4 + size :],
            )
        except (struct.error, KeyError, TypeError, UnicodeDecodeError) as error:
            raise ValueError(f"not a seal: {error}") from error
