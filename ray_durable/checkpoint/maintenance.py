"""Looking a whole store over: `verify`, `stats` and `compact`, for the command line. None of them makes damage worse.

`verify` reads every object of every log, checks digests, signatures, seals and chunks, and names what is damaged, what
nothing refers to, and whose state it concerns. It deletes nothing. `compact` empties sealed logs of which nothing is
needed and deletes orphans that are old enough to belong to nobody at work; live logs are compacted by their owners
alone.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ray_durable.checkpoint.archive import ARCHIVE, read_archive
from ray_durable.checkpoint.chunks import Chunks
from ray_durable.checkpoint.fencing import IN_FLIGHT_MAX
from ray_durable.checkpoint.footer import Form, read_footer, unwrap
from ray_durable.checkpoint.keys import NO_KEYS, Keys
from ray_durable.checkpoint.names import (
    CODE,
    LogObject,
    chunk_name,
    is_ours,
    log_prefix,
    parse_log_object,
    part_name,
    segment_name,
    writers,
)
from ray_durable.checkpoint.reading import Reading, read_log
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.recovery import Recovered, Recovery, fold_reading
from ray_durable.checkpoint.references import MARK, Reference, find_references
from ray_durable.checkpoint.relocation import Relocations
from ray_durable.checkpoint.retirement import MayGo, beyond, held_logs, may_retire, parsed, retire
from ray_durable.checkpoint.salvage import salvage
from ray_durable.checkpoint.stores import Listed, Store
from ray_durable.clock import SYSTEM_CLOCK, Clock
from ray_durable.errors import DamagedError, NotFoundError

ORPHAN_AGE_S = 3600.0
GAP_SEEN, GAP_PAUSE_S = 3, 0.5
"""How often a gap must be seen to be believed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `verify` found. `kind`: "damaged", "missing", "orphan", "void" or "unplanned"."""

    kind: str
    name: str
    reason: str
    offset: int = -1
    coroutines: tuple[str, ...] = ()


@dataclass(slots=True)
class Verified:
    """What `verify` looked at and found. Orphans and void objects are harmless; anything else is not."""

    logs: int = 0
    objects: int = 0
    bytes: int = 0
    coroutines: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return all(finding.kind in ("orphan", "void", "unplanned") for finding in self.findings)


@dataclass(slots=True)
class LogStats:
    """One log in figures."""

    writer: str
    fenced: bool
    segments: int = 0
    segment_bytes: int = 0
    base_bytes: int = 0
    chunk_bytes: int = 0
    coroutines: int = 0
    finished: int = 0
    live_bytes: int = 0
    keys: dict[str, int] = field(default_factory=dict)
    """Objects per key that signed or encrypted them; "" for those without."""


@dataclass(slots=True)
class Compacted:
    """What `compact` did."""

    retired: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    """Sealed logs that stay, and why."""


def verify(store: Store, keys: Keys = NO_KEYS) -> Verified:
    """Check everything in a store. Safe beside running hosts, whose newest objects it may not see. Raises: StoreError.

    Example: for finding in verify(open_store(url)).findings: print(finding)
    """
    result = Verified()
    for writer in writers(store):
        result.logs += 1
        reading, listed = read_and_listed(store, writer, keys)
        recovery = fold_reading(reading)
        result.coroutines += len(recovery.coroutines)
        result.objects += len(listed)
        result.bytes += sum(each.size for each in listed)
        result.findings += damage_of(store, recovery.damage, keys)
        result.findings += seal_of(reading)
        result.findings += gap_in(reading, listed)
        result.findings += chunks_of(store, reading, recovery, listed, keys)
        result.findings += unneeded(store, reading, recovery, listed)
    for each in [*store.list(ARCHIVE), *store.list(CODE)]:
        result.objects += 1
        result.bytes += each.size
        result.findings += single(store, each.name, keys)
    return result


def single(store: Store, name: str, keys: Keys) -> Iterator[Finding]:
    """What is wrong with an object that is whole by itself: an archive, or code."""
    if not is_ours(name):
        yield Finding("orphan", name, "it is not ours")
        return
    try:
        if name.startswith(ARCHIVE):
            read_archive(store, name, keys)
        elif unwrap(name, store.read(name), keys)[0].form is not Form.CODE:
            yield Finding("damaged", name, "it is not code")
    except DamagedError as error:
        yield Finding("damaged", name, error.reason, error.offset)


def damage_of(store: Store, damage: list[DamagedError], keys: Keys) -> Iterator[Finding]:
    """What readers met, with the coroutines that it concerns as far as they can still be made out."""
    for error in damage:
        coroutines, reason = error.coroutines, error.reason
        if not coroutines and "/chunks/" not in error.name and "base-" not in error.name:
            try:
                left = salvage(error.name, store.read(error.name), keys)
                coroutines = tuple(sorted({id for id, _, _ in left.lost}))
                reason += f"; {len(left.good)} of its records are whole, {len(left.lost)} are not"
            except (DamagedError, NotFoundError):
                pass  # then nothing more can be said of it
        kind = "missing" if "missing" in error.reason else "damaged"
        yield Finding(kind, error.name, reason, error.offset, coroutines)


def seal_of(reading: Reading) -> Iterator[Finding]:
    if reading.fenced and reading.seal is None and not reading.damage:
        yield Finding("unplanned", log_prefix(reading.writer), "it is sealed and has no plan yet: seal it again")
    seal = reading.seal
    if seal is None or reading.base.emptied:
        return
    base = reading.base
    same = (seal.length, seal.base, seal.revision) == (reading.length, base.number, base.revision)
    if same and seal.digest != reading.digest:
        yield Finding("damaged", log_prefix(reading.writer), "its contents are not those that its seal vouches for")


def read_and_listed(store: Store, writer: str, keys: Keys) -> tuple[Reading, list[Listed]]:
    """A log's contents and objects. A gap is believed when it stays: its owner may be at work, and a listing late."""
    attempt = 0
    while True:
        reading, listed = read_log(store, writer, keys=keys), store.list(log_prefix(writer))
        attempt += 1
        if attempt == GAP_SEEN or not any(gap_in(reading, listed)):
            return reading, listed
        SYSTEM_CLOCK.sleep(GAP_PAUSE_S)


def gap_in(reading: Reading, listed: list[Listed]) -> Iterator[Finding]:
    """The first number that a log does not have, if there are more later ones than can be under way at once."""
    length = reading.length
    found = parsed(reading.writer, listed)
    grown = any(each.number > length for each in found if each.base)
    grown |= not reading.fenced and any(each.number == length for each in found if not each.base)
    if not grown and (later := beyond(found, length)) > IN_FLIGHT_MAX:
        reason = f"it is missing, or the base that covers it; {later} later segments count for nothing without it"
        yield Finding("missing", segment_name(reading.writer, length), reason)


def chunks_of(
    store: Store, reading: Reading, recovery: Recovery, listed: list[Listed], keys: Keys
) -> Iterator[Finding]:
    """Every pack is read, and every large buffer of every unfinished coroutine; each is compared with its digest, once.
    What else refers to packs that are sound is not read again."""
    prefix = f"{log_prefix(recovery.writer)}chunks/"
    sound: set[int] = set()
    for each in listed:
        if each.name.startswith(prefix) and is_ours(each.name):
            findings = list(pack_of(store, each.name, recovery.writer, keys))
            yield from findings
            if not findings:
                sound.add(int(each.name.removeprefix(prefix)))
    moved = Relocations.unpack(reading.base.relocated).runs
    there = sound | {pack for pack, runs in moved.items() if sound.issuperset(run[2] for run in runs)}
    chunks = Chunks(store, recovery.writer, keys=keys)
    needed: dict[bytes, tuple[Reference, dict[str, None]]] = {}
    for coroutine in recovery.coroutines.values():
        newest = find_references(coroutine.latest.state) if coroutine.latest and not coroutine.terminal else []
        for found in references_in(coroutine, live=True):
            if found in newest or found.writer != recovery.writer or not there.issuperset(dict(found.packs)):
                needed.setdefault(found.digest, (found, {}))[1][coroutine.id] = None
    for reference, coroutines in needed.values():
        try:
            chunks.load(reference.pack())
        except NotFoundError as error:
            yield Finding("missing", error.name, "a state refers to it", -1, tuple(coroutines))
        except DamagedError as error:
            yield Finding("damaged", error.name, error.reason, error.offset, tuple(coroutines))


def pack_of(store: Store, name: str, writer: str, keys: Keys) -> Iterator[Finding]:
    try:
        footer, _ = unwrap(name, store.read(name), keys)
        if footer.form is not Form.CHUNKS or chunk_name(writer, f"{footer.number:016d}") != name:
            yield Finding("damaged", name, "it is not the pack of this name")
    except DamagedError as error:
        yield Finding("damaged", name, error.reason, error.offset)
    except NotFoundError:
        pass  # compacted away since


def references_in(coroutine: Recovered, live: bool = False) -> Iterator[Reference]:
    """What any record of a coroutine refers to in chunks. `live`: those that are still wanted; of one that has ended,
    other logs may have been deleted that its last states refer to."""
    single = (coroutine.latest, coroutine.checkpoint, coroutine.adopted, coroutine.moved, coroutine.admitted)
    states = () if live and coroutine.terminal is not None else (*single, *coroutine.events)
    for record in (*states, coroutine.terminal, *coroutine.history, *coroutine.items):
        if record is not None and MARK in record.state:
            yield from find_references(record.state)


def unneeded(store: Store, reading: Reading, recovery: Recovery, listed: list[Listed]) -> Iterator[Finding]:
    """Objects under a log that no reader looks at."""
    prefix, writer = log_prefix(reading.writer), reading.writer
    base = (reading.base.number, reading.base.revision)
    parts = {part_name(writer, part) for part in reading.base.parts}
    packs = needed_packs(recovery) | set(Relocations.unpack(reading.base.relocated).targets())
    for each in listed:
        leaf = each.name.removeprefix(prefix)
        found = parse_log_object(leaf)
        if not is_ours(each.name):
            yield Finding("orphan", each.name, "it is not ours")
        elif found is not None:
            if is_void(found, base, reading):
                yield Finding("void", each.name, "it does not count: below the base, or beyond the log's end")
        elif leaf.startswith("parts/"):
            if each.name not in parts:
                yield Finding("orphan", each.name, "no base names it")
        elif leaf.startswith("chunks/") and recovery.fenced and int(leaf[7:]) not in packs:
            yield Finding("orphan", each.name, "no state refers to it")


def is_void(found: LogObject, base: tuple[int, int], reading: Reading) -> bool:
    if found.base:
        return (found.number, found.revision) < base
    return found.number < base[0] or (reading.fenced and found.number > reading.length)


def needed_packs(recovery: Recovery) -> set[int]:
    """Packs that any record of the log may need, by what its references say."""
    found = (each for coroutine in recovery.coroutines.values() for each in references_in(coroutine))
    return {pack for each in found for pack, _ in each.packs}


def stats(store: Store, keys: Keys = NO_KEYS) -> list[LogStats]:
    """Figures of every log, and which keys its objects need. A key that no object names may be dropped, if
    `keys_beside_logs` does not name it either. Raises: StoreError."""
    return [stats_of(store, writer, keys) for writer in writers(store)]


def stats_of(store: Store, writer: str, keys: Keys) -> LogStats:
    recovery = fold_reading(read_log(store, writer, keys=keys))
    result = LogStats(writer, recovery.fenced, coroutines=len(recovery.coroutines))
    for coroutine in recovery.coroutines.values():
        result.finished += coroutine.terminal is not None
        records = (coroutine.latest, coroutine.terminal, *coroutine.events, *coroutine.items)
        result.live_bytes += sum(len(record.state) for record in records if record is not None)
    for each in store.list(log_prefix(writer)):
        leaf = each.name.removeprefix(log_prefix(writer))
        if leaf.startswith("chunks/"):
            result.chunk_bytes += each.size
        elif leaf.startswith(("parts/", "base-")):
            result.base_bytes += each.size
        else:
            result.segments += 1
            result.segment_bytes += each.size
        for key in needed_keys(store, each.name):
            result.keys[key] = result.keys.get(key, 0) + 1
    return result


def needed_keys(store: Store, name: str) -> set[str]:
    """The ids of the keys that signed and encrypted an object, "" for neither; none of one that tells nothing, which
    `verify` names."""
    try:
        footer = read_footer(name, store.read(name, -1000))
    except (DamagedError, NotFoundError):
        return set()
    return {key.hex() if key.strip(b"\0") else "" for key in (footer.signing_id, footer.encryption_id)}


def keys_beside_logs(store: Store) -> Counter[str]:
    """Objects per key among archives and code, as `stats` counts those of logs. Raises: StoreError."""
    listed = [*store.list(ARCHIVE), *store.list(CODE)]
    return Counter(key for each in listed if is_ours(each.name) for key in needed_keys(store, each.name))


def compact(
    store: Store,
    *,
    process_gone: Callable[[str], bool] = lambda writer: False,
    keys: Keys = NO_KEYS,
    clock: Clock = SYSTEM_CLOCK,
    orphan_age_s: float = ORPHAN_AGE_S,
) -> Compacted:
    """Empty the sealed logs of which nothing is needed, and delete orphans older than `orphan_age_s` in sealed logs.

    A log stays unless every coroutine in it is finished with a tombstone, or was taken over by another log (there is no
    history of it here then, or it has a tombstone there); `process_gone` says whose process is known dead. Raises:
    StoreError.
    """
    result = Compacted()
    recoveries = {writer: fold_reading(read_log(store, writer, keys=keys)) for writer in writers(store)}
    held = held_logs(recoveries.values())
    taken, forgotten = newest_epochs(recoveries), tombstones(recoveries)
    mentions = Counter(id for recovery in recoveries.values() for id in recovery.coroutines)
    for writer, recovery in recoveries.items():
        if not recovery.fenced or recovery.emptied:
            continue

        def done(coroutine: Recovered) -> bool:
            if coroutine.terminal is not None:  # were it gone, what else is said of it would look unfinished
                return coroutine.terminal.kind is Kind.TOMBSTONE and mentions[coroutine.id] == 1
            if coroutine.history and coroutine.id not in forgotten:
                return False
            return taken.get(coroutine.id, -1) > coroutine.epoch

        match may_retire(recovery, process_gone=process_gone(writer), held=writer in held, done=done):
            case MayGo() if not recovery.damage:
                retire(store, recovery, os.urandom(16) if clock is SYSTEM_CLOCK else bytes(16), keys)
                result.retired.append(writer)
            case MayGo():
                result.kept[writer] = "it is damaged: verify it first"
            case needed:
                result.kept[writer] = needed.reason
                result.orphans += delete_orphans(store, writer, keys, clock.now() - orphan_age_s)
    return result


def newest_epochs(recoveries: dict[str, Recovery]) -> dict[str, int]:
    """The highest epoch at which each coroutine was adopted, or ended, anywhere."""
    newest: dict[str, int] = {}
    for recovery in recoveries.values():
        for id, coroutine in recovery.coroutines.items():
            for record in (coroutine.adopted, coroutine.terminal):
                if record is not None:
                    newest[id] = max(newest.get(id, -1), record.epoch)
    return newest


def tombstones(recoveries: dict[str, Recovery]) -> set[str]:
    """The coroutines whose retention is over."""
    ends = ((id, found.terminal) for each in recoveries.values() for id, found in each.coroutines.items())
    return {id for id, end in ends if end is not None and end.kind is Kind.TOMBSTONE}


def delete_orphans(store: Store, writer: str, keys: Keys, before_s: float) -> list[str]:
    """Delete what nothing refers to in a sealed log and is older than `before_s`; never where there is damage, as what
    looks like an orphan may then be all that is left."""
    reading = read_log(store, writer, keys=keys)
    listed = store.list(log_prefix(writer))
    if reading.damage or any(gap_in(reading, listed)):
        return []
    old = {each.name for each in listed if each.modified_s < before_s}
    deleted = []
    for finding in unneeded(store, reading, fold_reading(reading), listed):
        if finding.kind == "orphan" and finding.name in old and is_ours(finding.name):
            store.delete(finding.name)
            deleted.append(finding.name)
    return deleted
