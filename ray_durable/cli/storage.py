"""`ray-durable store …`: what a storage holds, whether it is whole, and clearing it. Works on the objects alone.

Only objects that ray_durable makes are ever touched: a storage directory may hold other files as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_durable.cli.output import Answer, CommandFailed, command, facts, headline, table
from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.config import Settings
from ray_durable.inspection import bytes_text

if TYPE_CHECKING:
    from ray_durable.checkpoint.keys import Keys
    from ray_durable.checkpoint.recovery import Recovered, Recovery
    from ray_durable.checkpoint.stores import Listed, Store

OURS = ("alive/", "archive/", "cluster/", "code/", "controller/", "logs/", "probe/")
LOOK_EVERY_S = 0.1

app = typer.Typer(
    help="Look into a storage, verify it, clear it. Needs no cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
StorageOption = Annotated[
    str | None,
    typer.Option("--storage", help="Directory or URL; else RAY_DURABLE_STORAGE, else the user's data folder."),
]


StorageArgument = Annotated[
    str | None, typer.Argument(metavar="[URL]", show_default=False, help="The same as --storage, in short.")
]


@dataclass(frozen=True, slots=True)
class Kept:
    """What the storage says of one coroutine, all logs taken together."""

    id: str
    name: str | None
    function: str
    state: str
    epoch: int
    seq: int
    writer: str


@command
def stats(url: StorageArgument = None, storage: StorageOption = None) -> Answer:
    """Show what a storage holds: logs, bytes, coroutines by state, and the keys that its objects need."""
    from ray_durable.checkpoint import maintenance

    store, keys = existing(one_of(url, storage))
    listed = objects(store)
    logs = maintenance.stats(store, keys)
    recoveries = dict(recovered(store, keys))
    states = dict(sorted(Counter(each.state for each in survey(recoveries)).items()))
    unreadable = sum(len(each.damage) for each in recoveries.values())
    used = sum((Counter(log.keys) for log in logs), maintenance.keys_beside_logs(store))
    used.pop("", None)
    plain: dict[str, Any] = {
        "storage": store.url,
        "objects": len(listed),
        "bytes": sum(each.size for each in listed),
        "coroutines": states,
        "unreadable": unreadable,
        "logs": [asdict(log) for log in logs],
        "keys": dict(used),
    }
    shown: list[Any] = [
        headline("Storage"),
        facts(
            {
                "storage": store.url,
                "objects": f"{len(listed):,} ({bytes_text(plain['bytes'])})",
                "coroutines": ", ".join(f"{count:,} {state}" for state, count in states.items()) or "none",
                "unreadable": f"{unreadable:,} objects: `ray-durable store verify` says why" if unreadable else None,
                "keys": ", ".join(f"{key}: {count:,} objects" for key, count in used.items()) or None,
            }
        ),
    ]
    if logs:
        columns = ["LOG", "SEALED", "SEGMENTS", "SEGMENT_BYTES", "BASE_BYTES", "CHUNK_BYTES", "COROUTINES", "FINISHED"]
        rows = [
            (
                log.writer,
                "yes" if log.fenced else "no",
                log.segments,
                *map(bytes_text, (log.segment_bytes, log.base_bytes, log.chunk_bytes)),
                log.coroutines,
                log.finished,
            )
            for log in logs
        ]
        shown += ["", table(columns, rows, right=columns[2:])]
    return Answer(plain, shown)


@command
def verify(url: StorageArgument = None, storage: StorageOption = None) -> Answer:
    """Check every object: digests, signatures, seals, chunks. Exit status 1 if something is damaged or missing."""
    from ray_durable.checkpoint import maintenance

    store, keys = existing(one_of(url, storage))
    found = maintenance.verify(store, keys)
    plain = {"sound": found.sound, "storage": store.url, **asdict(found)}
    verdict = "sound" if found.sound else "NOT SOUND"
    looked_at = f"{found.objects:,} objects ({bytes_text(found.bytes)}) of {found.logs:,} logs"
    shown: list[Any] = [f"{looked_at} in {store.url}: {verdict}, {len(found.findings):,} findings."]
    if found.findings:
        rows = [(each.kind, each.name, each.reason, len(each.coroutines)) for each in found.findings]
        shown += ["", table(["KIND", "OBJECT", "REASON", "COROUTINES"], rows, right=["COROUTINES"])]
    if not found.sound:
        shown += [
            "",
            "What is damaged is never loaded; coroutines go on from what is whole. Look for the cause (disk, edits, a "
            "wrong key), and restore these objects from a backup if you have one, before hosts start.",
        ]
    return Answer(plain, shown, code=0 if found.sound else 1)


@command
def compact(url: StorageArgument = None, storage: StorageOption = None) -> Answer:
    """Empty sealed logs of which nothing is needed any more, and delete old orphans. Safe beside a running cluster."""
    from ray_durable.checkpoint import maintenance

    store, keys = existing(one_of(url, storage))
    before = sum(each.size for each in objects(store))
    found = maintenance.compact(store, keys=keys)
    freed = before - sum(each.size for each in objects(store))
    plain = {"storage": store.url, "freed_bytes": freed, **asdict(found)}
    emptied = f"Emptied {len(found.retired):,} logs, deleted {len(found.orphans):,} orphans"
    shown: list[Any] = [f"{emptied}: {bytes_text(max(0, freed))} freed."]
    if found.kept:
        shown += ["", table(["LOG", "KEPT_BECAUSE"], sorted(found.kept.items()))]
    return Answer(plain, shown)


@command
def clear(
    url: StorageArgument = None,
    storage: StorageOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also while a cluster works on it.")] = False,
) -> Answer:
    """Delete all that ray_durable keeps in a storage: unfinished coroutines and results are lost."""
    store, _ = opened(one_of(url, storage))
    listed = objects(store)
    size = sum(each.size for each in listed)
    told = f"{len(listed):,} objects ({bytes_text(size)}) in {store.url}"
    plain = {"storage": store.url, "objects": len(listed), "bytes": size, "deleted": False}
    if dry_run or not listed:
        return Answer(plain, [f"Would delete {told}." if listed else f"Nothing to delete in {store.url}."])
    if not force and is_at_work(store):
        raise CommandFailed(
            f"A live cluster works on {store.url}; nothing was deleted.", "Stop it first, or give --force."
        )
    if not yes and not typer.confirm(f"Delete {told}? Unfinished coroutines and results are lost.", err=True):
        raise CommandFailed("Nothing was deleted.", "Confirm with --yes.")
    for each in listed:
        store.delete(each.name)
    return Answer({**plain, "deleted": True}, [f"Deleted {told}."])


app.command()(stats)
app.command()(verify)
app.command()(compact)
app.command()(clear)


def one_of(url: str | None, storage: str | None) -> str | None:
    if url is not None and storage is not None:
        raise CommandFailed(f"Two storages are named: {url} and {storage}.", "Name one.")
    return storage if url is None else url


def opened(storage: str | None) -> tuple[Store, Keys]:
    """The storage that is meant, and the keys that the settings give. A directory that is not there is not made."""
    from pathlib import Path

    from ray_durable.checkpoint.keys import keys_of
    from ray_durable.checkpoint.stores import open_store

    settings = Settings.load(storage=storage)
    url = settings.storage
    path = url.removeprefix("file://") if url.startswith("file:///") or "://" not in url else None
    if path is not None and not Path(path).expanduser().is_dir():
        raise CommandFailed(f"There is no storage at {path}.", "Name one with --storage, or set RAY_DURABLE_STORAGE.")
    return open_store(url), keys_of(settings)


def existing(storage: str | None) -> tuple[Store, Keys]:
    """The storage that is meant, in which a cluster or a log has been."""
    from ray_durable.checkpoint.names import LOGS, claims, parse_log_object

    store, keys = opened(storage)
    logs = (each.name.removeprefix(LOGS).partition("/")[2] for each in store.list(LOGS))
    if not claims(store, "cluster/") and not any(parse_log_object(leaf) for leaf in logs):
        raise CommandFailed(
            f"There is no storage in {store.url}: nothing there is ray_durable's.",
            "Name one with --storage, or set RAY_DURABLE_STORAGE.",
        )
    return store, keys


def objects(store: Store) -> list[Listed]:
    from ray_durable.checkpoint.names import is_ours

    return [each for prefix in OURS for each in store.list(prefix) if is_ours(each.name)]


def recovered(store: Store, keys: Keys) -> Iterator[tuple[str, Recovery]]:
    from ray_durable.checkpoint.names import writers
    from ray_durable.checkpoint.recovery import recover

    for writer in writers(store):
        yield writer, recover(store, writer, keys=keys)


def is_at_work(store: Store) -> bool:
    """Whether the cluster that claimed this storage last shows that it lives, within its lease."""
    from ray_durable.actors.terms import read_claims, read_counter

    claims = read_claims(store)
    if not claims:
        return False
    number = claims[-1].number
    before = read_counter(store, number)
    deadline = SYSTEM_CLOCK.monotonic() + Settings.load().lease_s
    while SYSTEM_CLOCK.monotonic() < deadline:
        if read_counter(store, number) != before:
            return True
        SYSTEM_CLOCK.sleep(LOOK_EVERY_S)
    return False


def survey(recoveries: dict[str, Recovery]) -> list[Kept]:
    """Every coroutine in the storage with what its newest records say, sorted by name and id."""
    best: dict[str, tuple[tuple[bool, int, int], str, Recovered]] = {}
    headers: dict[str, tuple[str | None, str]] = {}
    for writer, recovery in recoveries.items():
        for id, found in recovery.coroutines.items():
            seq = max((r.seq for r in (found.latest, found.terminal) if r is not None), default=0)
            rank = (found.terminal is not None, found.epoch, seq)
            if id not in best or rank > best[id][0]:
                best[id] = rank, writer, found
            if (header := header_of(found)) is not None:
                headers[id] = header
    kept = []
    for id, ((_, epoch, seq), writer, found) in best.items():
        name, function = headers.get(id, (None, ""))
        kept.append(Kept(id, name, function, state_of(found), epoch, seq, writer))
    return sorted(kept, key=lambda each: (str(each.name or ""), each.id))  # names were not always checked


def state_of(found: Recovered) -> str:
    """How a coroutine stands by its newest records; where it runs just now is known only to a cluster."""
    if found.terminal is not None:
        return found.terminal.kind.name.lower()
    if found.live:
        return "unfinished"
    return "moving" if found.moved is not None else "pending"


def header_of(found: Recovered) -> tuple[str | None, str] | None:
    """Name and function, from the newest record that says them."""
    from ray_durable.actors.transfer import Transfer

    for record in (found.adopted, found.admitted, found.placed, found.moved):
        if record is not None and record.state:
            try:
                header = Transfer.decode(record.state).header
            except (ValueError, KeyError, TypeError, IndexError):
                continue
            return header.name, header.function
    return None
