"""`ray-durable history`: what the logs say of one coroutine, from its admission to its end.

Read from the storage, so that it also works for coroutines whose cluster is gone (`--storage`). Compaction drops
records that newer ones have replaced; the coroutine's option `keep_history` keeps them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_durable.cli.cluster import NameArgument, NamespaceOption, moment
from ray_durable.cli.joining import AddressOption, joined
from ray_durable.cli.output import Answer, command, headline, table
from ray_durable.cli.storage import StorageOption, existing, opened, recovered, survey
from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.errors import NoSuchCoroutineError
from ray_durable.inspection import bytes_text

if TYPE_CHECKING:
    from ray_durable.checkpoint.keys import Keys
    from ray_durable.checkpoint.stores import Store


@dataclass(frozen=True, slots=True)
class Step:
    """One record, or a run of checkpoints in one log. `time`: when its segment was stored, by the store's clock."""

    time: float
    what: str
    epoch: int
    seq: int
    log: str
    bytes: int
    count: int = 1


@command
def history(
    name: NameArgument,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Each checkpoint by itself.")] = False,
    storage: StorageOption = None,
    address: AddressOption = None,
    namespace: NamespaceOption = None,
) -> Answer:
    """Show a coroutine's way: admitted, adopted, checkpoints, moves, end."""
    if storage is None:
        with joined(address) as asker:
            id = asker.ask("lookup", name, namespace)["id"]
            storage = asker.ask("status")["storage"]
        store, keys = opened(storage)
    else:
        store, keys = existing(storage)
        id = find(name, store, keys)
    damaged: list[str] = []
    steps = sorted(steps_of(id, store, keys, damaged), key=lambda step: (step.epoch, step.time, step.seq))
    if not everything:
        steps = list(together(steps))
    rows = [(moment(s.time), words(s), s.epoch, s.seq, s.log, bytes_text(s.bytes)) for s in steps]
    columns = ["TIME", "WHAT", "EPOCH", "SEQ", "LOG", "BYTES"]
    shown: list[Any] = [headline(f"History: {name}"), table(columns, rows, right=("EPOCH", "SEQ", "BYTES"))]
    if damaged:
        lacking = f"{len(damaged):,} objects in {store.url} are damaged, and may hold more of it"
        shown += ["", f"{lacking}: `ray-durable store verify` names them."]
    return Answer({"id": id, "steps": [asdict(step) for step in steps], "damaged": damaged}, shown)


def find(name: str, store: Store, keys: Keys) -> str:
    """The id of the coroutine of this name or id, the newest if several had the name. Raises: NoSuchCoroutineError."""
    kept = survey(dict(recovered(store, keys)))
    found = [each for each in kept if each.id == name] or [each for each in kept if each.name == name]
    if not found:
        raise NoSuchCoroutineError(name, f"no coroutine in {store.url} has this name or id")
    return next((each.id for each in found if each.state in ("unfinished", "pending", "moving")), found[-1].id)


def steps_of(id: str, store: Store, keys: Keys, damaged: list[str]) -> Iterator[Step]:
    """Every record about `id` that the logs still hold; names of objects that cannot be read go to `damaged`."""
    from ray_durable.checkpoint.names import log_prefix, writers
    from ray_durable.checkpoint.reading import read_log
    from ray_durable.checkpoint.record import Kind

    for writer in writers(store):
        times = {each.name: each.modified_s for each in store.list(log_prefix(writer))}
        reading = read_log(store, writer, keys=keys)
        damaged += [str(each.name) for each in reading.damage]
        times |= {each.name: each.modified_s for each in store.list(log_prefix(writer))}
        now = SYSTEM_CLOCK.now()  # for what was written meanwhile, and compacted already
        for segment in reading.segments:
            for row, coroutine in enumerate(segment.coroutines):
                if coroutine == id:
                    what = Kind(segment.kinds[row]).name.lower()
                    size = segment.state_bytes(row)
                    time = times.get(segment.name, now)
                    yield Step(time, what, segment.epochs[row], segment.seqs[row], writer, size)


def together(steps: list[Step]) -> Iterator[Step]:
    """Runs of checkpoints in one log as one step each, at the time and seq of the last."""
    run: Step | None = None
    for step in steps:
        if run is not None and (step.what, step.epoch, step.log) == ("checkpoint", run.epoch, run.log):
            run = Step(step.time, "checkpoint", step.epoch, step.seq, step.log, run.bytes + step.bytes, run.count + 1)
            continue
        if run is not None:
            yield run
        run = step if step.what == "checkpoint" else None
        if run is None:
            yield step
    if run is not None:
        yield run


def words(step: Step) -> str:
    return f"{step.count:,} checkpoints" if step.count > 1 else step.what
