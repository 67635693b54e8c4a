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
from ray_durable.config import Settings
from ray_durable.errors import DamagedError, NotFoundError
from ray_durable.inspection import bytes_text

if TYPE_CHECKING:
    from ray_durable.checkpoint.keys import Keys
    from ray_durable.checkpoint.recovery import Recovered, Recovery
    from ray_durable.checkpoint.stores import Listed, Store

OURS = ("archive/", "cluster/", "controller/", "logs/", "probe/")

app = typer.Typer(
    help="Look into a storage, verify it, clear it. Needs no cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
StorageOption = Annotated[
    str | None,
    typer.Option("--storage", help="Directory or URL; else RAY_DURABLE_STORAGE, else the user's data folder."),
]


@dataclass(frozen=True, slots=True)
class LogStats:
    """One log in the storage. `unfinished`: coroutines that it owns."""

    writer: str
    segments: int
    bytes: int
    chunks: int
    sealed_by: str | None
    unfinished: int
    damaged: int


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
def stats(storage: StorageOption = None) -> Answer:
    """Show what a storage holds: logs, bytes, and coroutines by state."""
    store, keys = opened(storage)
    listed = objects(store)
    recoveries = dict(recovered(store, keys))
    logs = [log_stats(writer, recovery, listed) for writer, recovery in recoveries.items()]
    kept = survey(recoveries)
    states = dict(sorted(Counter(each.state for each in kept).items()))
    plain: dict[str, Any] = {
        "storage": store.url,
        "objects": len(listed),
        "bytes": sum(each.size for each in listed),
        "coroutines": states,
        "logs": [asdict(log) for log in logs],
        "keys": dict(key_use(store, listed)),
    }
    shown: list[Any] = [
        headline("Storage"),
        facts(
            {
                "storage": store.url,
                "objects": f"{len(listed):,} ({bytes_text(plain['bytes'])})",
                "coroutines": ", ".join(f"{count:,} {state}" for state, count in states.items()) or "none",
                "keys": ", ".join(f"{key}: {count:,} objects" for key, count in plain["keys"].items()) or None,
            }
        ),
    ]
    if logs:
        columns = ["LOG", "SEGMENTS", "BYTES", "CHUNKS", "UNFINISHED", "DAMAGED", "SEALED_BY"]
        rows = [
            (g.writer, g.segments, bytes_text(g.bytes), g.chunks, g.unfinished, g.damaged, g.sealed_by) for g in logs
        ]
        shown += ["", table(columns, rows, right=columns[1:-1])]
    return Answer(plain, shown)


@command
def verify(storage: StorageOption = None) -> Answer:
    """Read every object and check its digest, signature and form. Exit status 1 if one is damaged."""
    store, keys = opened(storage)
    checked, size, damage = 0, 0, []
    for each in objects(store):
        if each.name.startswith("logs/"):
            try:
                check_object(store, each.name, keys)
            except NotFoundError:
                continue  # compacted since it was listed
            except DamagedError as error:
                damage.append(error)
            checked += 1
            size += each.size
    named = {error.name for error in damage}
    for _, recovery in recovered(store, keys):  # what only the whole log shows: a missing part, a record's checksum
        damage += [error for error in recovery.damage if error.name not in named]
    rows = [
        {"object": e.name, "offset": e.offset, "reason": e.reason, "coroutines": list(e.coroutines)} for e in damage
    ]
    plain: dict[str, Any] = {"storage": store.url, "checked": checked, "bytes": size, "damaged": rows}
    shown: list[Any] = [f"{checked:,} objects ({bytes_text(size)}) checked in {store.url}: {len(rows):,} damaged."]
    if rows:
        shown += [
            "",
            table(["OBJECT", "REASON", "COROUTINES"], [(e.name, e.reason, len(e.coroutines)) for e in damage]),
            "",
            "What is damaged is never loaded; coroutines go on from what is whole. Look for the cause (disk, edits, a "
            "wrong key), and restore these objects from a backup if you have one, before hosts start.",
        ]
    return Answer(plain, shown, code=1 if rows else 0)


@command
def clear(
    storage: StorageOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
) -> Answer:
    """Delete all that ray_durable keeps in a storage: unfinished coroutines and results are lost."""
    store, _ = opened(storage)
    listed = objects(store)
    size = sum(each.size for each in listed)
    told = f"{len(listed):,} objects ({bytes_text(size)}) in {store.url}"
    plain = {"storage": store.url, "objects": len(listed), "bytes": size, "deleted": False}
    if dry_run or not listed:
        return Answer(plain, [f"Would delete {told}." if listed else f"Nothing to delete in {store.url}."])
    if not yes and not typer.confirm(f"Delete {told}? Unfinished coroutines and results are lost.", err=True):
        raise CommandFailed("Nothing was deleted.", "Confirm with --yes.")
    for each in listed:
        store.delete(each.name)
    return Answer({**plain, "deleted": True}, [f"Deleted {told}."])


app.command()(stats)
app.command()(verify)
app.command()(clear)


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


def objects(store: Store) -> list[Listed]:
    return [each for prefix in OURS for each in store.list(prefix)]


def recovered(store: Store, keys: Keys) -> Iterator[tuple[str, Recovery]]:
    from ray_durable.checkpoint.names import writers
    from ray_durable.checkpoint.recovery import recover

    for writer in writers(store):
        yield writer, recover(store, writer, keys=keys)


def log_stats(writer: str, recovery: Recovery, listed: list[Listed]) -> LogStats:
    from ray_durable.checkpoint.names import log_prefix, parse_log_object

    prefix = log_prefix(writer)
    own = [each for each in listed if each.name.startswith(prefix)]
    leaves = [each.name.removeprefix(prefix) for each in own]
    return LogStats(
        writer=writer,
        segments=sum(1 for leaf in leaves if parse_log_object(leaf) is not None),
        bytes=sum(each.size for each in own),
        chunks=sum(1 for leaf in leaves if leaf.startswith("chunks/")),
        sealed_by=recovery.sealed.sealer if recovery.sealed else None,
        unfinished=sum(1 for each in recovery.coroutines.values() if each.live),
        damaged=len(recovery.damage),
    )


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
    return sorted(kept, key=lambda each: (each.name or "", each.id))


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


def check_object(store: Store, name: str, keys: Keys) -> None:
    """Raises: DamagedError."""
    from ray_durable.checkpoint.footer import Form, read_footer, unwrap
    from ray_durable.checkpoint.segment import decode

    data = store.read(name)
    if read_footer(name, data).form in (Form.RECORDS, Form.SEAL, Form.PART):
        for _ in decode(name, data, keys).records():
            pass
    else:
        unwrap(name, data, keys)


def key_use(store: Store, listed: list[Listed]) -> Iterator[tuple[str, int]]:
    """How many objects each signing and encryption key was used for: what a rotation waits for."""
    from ray_durable.checkpoint.footer import FOOTER_BYTES, read_footer
    from ray_durable.checkpoint.keys import NO_KEY

    used: Counter[str] = Counter()
    for each in listed:
        if each.name.startswith("logs/"):
            try:
                footer = read_footer(each.name, store.read(each.name, -(FOOTER_BYTES + 256)))
            except (NotFoundError, DamagedError):
                continue
            for kind, key in (("signing", footer.signing_id), ("encryption", footer.encryption_id)):
                if key != NO_KEY:
                    used[f"{kind} {key.hex()}"] += 1
    yield from sorted(used.items())
