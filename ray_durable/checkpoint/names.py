"""The names of the objects in a store; PROTOCOL's table as functions."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from ray_durable.checkpoint.stores import Store
from ray_durable.errors import AlreadyExists, StoreError

LOGS, CODE = "logs/", "code/"
WRITER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+@-]{0,199}\Z")
OURS = re.compile(
    r"""(?x) logs/[A-Za-z0-9][A-Za-z0-9._=+@-]{0,199}/
             ([0-9]{16} | base-[0-9]{16}-[0-9]{6} | plan-[0-9]{16} | parts/[0-9a-f]{32} | chunks/[0-9]{16})
           | archive/[^/]+-[0-9a-f]{32}\.parquet
           | (cluster|controller)/[0-9]{8,} | alive/[0-9]+
           | code/[0-9a-f]{40}
           | probe/[0-9a-f]{32}(-[0-9]+)?"""
)
NUMBER = re.compile(r"(?:base-([0-9]{16})-([0-9]{6})|([0-9]{16}))\Z")


@functools.lru_cache(1024)
def log_prefix(writer: str) -> str:
    """Raises: StoreError for a writer whose name cannot be a folder's."""
    if not WRITER.match(writer):
        raise StoreError("use", writer, "not a writer's name: letters, digits and ._=+@- only, at most 200")
    return f"{LOGS}{writer}/"


def segment_name(writer: str, number: int) -> str:
    return f"{log_prefix(writer)}{number:016d}"


def plan_name(writer: str, number: int) -> str:
    """The plan that belongs to the seal at `number`."""
    return f"{log_prefix(writer)}plan-{number:016d}"


def base_name(writer: str, number: int, revision: int) -> str:
    """Of two bases the one with the higher number counts, of equal ones the one with the higher revision."""
    return f"{log_prefix(writer)}base-{number:016d}-{revision:06d}"


def part_name(writer: str, part: str) -> str:
    return f"{log_prefix(writer)}parts/{part}"


def chunk_name(writer: str, chunk: str) -> str:
    return f"{log_prefix(writer)}chunks/{chunk}"


@dataclass(frozen=True, slots=True)
class LogObject:
    """What a name under a log's folder says. `number` is a segment's, or the first that a base does not cover."""

    number: int
    base: bool
    revision: int = 0


def parse_log_object(leaf: str) -> LogObject | None:
    """The part of a name behind the log's folder; None for parts, chunks and what is not ours."""
    found = NUMBER.match(leaf)
    if found is None:
        return None
    if found[3] is not None:
        return LogObject(int(found[3]), base=False)
    return LogObject(int(found[1]), base=True, revision=int(found[2]))


def is_ours(name: str) -> bool:
    """Whether an object has a name that `ray_durable` gives. Any other is a user's, and is never deleted."""
    return OURS.fullmatch(name) is not None


def writers(store: Store) -> list[str]:
    """Every log in the store, by its writer's name, sorted. A folder that could not be one is somebody else's."""
    return [name for name in store.folders(LOGS) if WRITER.match(name)]


def claim(store: Store, prefix: str, data: bytes) -> int:
    """Create the next of the numbered objects `prefix<n>` (`cluster/`, `controller/`), and return its number.

    Numbers begin at 1 and are created in order, each by one claimer only, however many race. When an error leaves open
    whether ours was made, the object is read back: give each claimer's `data` something unique.
    Raises: StoreError when the store fails three times in a row.
    Example: term = claim(store, "controller/", incarnation.encode())
    """
    number = max((n for n, _ in claims(store, prefix)), default=0) + 1
    failures = 0
    while True:
        name = f"{prefix}{number:08d}"
        try:
            store.create(name, data)
            return number
        except AlreadyExists:
            if store.read(name) == data:
                return number
            number += 1
        except StoreError:
            failures += 1
            if failures == 3:
                raise


def claims(store: Store, prefix: str) -> list[tuple[int, str]]:
    """The claimed numbers under `prefix` with the names of their objects, in order."""
    found = ((listed.name.removeprefix(prefix), listed.name) for listed in store.list(prefix))
    return sorted((int(leaf), name) for leaf, name in found if leaf.isdecimal())
