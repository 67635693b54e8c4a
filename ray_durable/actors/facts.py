"""From logs to facts and transfers: what recovery found, in the terms of ownership."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from ray_durable.actors.outcomes import ENDINGS, Finished
from ray_durable.actors.ownership import Fact, decode_plans
from ray_durable.actors.transfer import Marks, Transfer
from ray_durable.checkpoint.record import MARKS, Consumed, Kind, Record
from ray_durable.checkpoint.recovery import Recovered, Recovery

__all__ = ["facts_in", "finished_in", "newest_transfer", "state_to_follow", "transfer_from"]

BY_KIND = {kind: ending for ending, kind in ENDINGS.items()}


def facts_in(recovery: Recovery) -> Iterator[Fact]:
    """All that one log, its seal included, says of ownership."""
    for id, found in recovery.coroutines.items():
        if found.admitted is not None:
            yield Fact(id, "admitted", found.admitted.epoch)
        if found.placed is not None:
            yield Fact(id, "planned", found.placed.epoch, found.placed.state.decode())
        if found.adopted is not None:
            yield Fact(id, "adopted", found.adopted.epoch, recovery.writer)
        if found.moved is not None:
            yield Fact(id, "planned", found.moved.epoch, Transfer.decode(found.moved.state).to)
        if found.terminal is not None:
            yield Fact(id, "terminal", found.terminal.epoch)
    if recovery.sealed is not None:
        for id, plan in decode_plans(recovery.sealed.plan).items():
            yield Fact(id, "planned", plan.epoch, plan.to)


def finished_in(recovery: Recovery) -> Iterator[Finished]:
    """Every outcome that one log holds."""
    for id, found in recovery.coroutines.items():
        ending = found.terminal
        if ending is not None and ending.kind in BY_KIND:
            marks = Consumed.unpack(ending.consumed)
            origin = found.adopted or found.admitted
            carried = () if origin is None else Transfer.decode(bytes(origin.state)).items  # streamed before it came
            unread = joined(carried, found.items, above=marks.read - 1)
            items = tuple(item for item in unread if item[0] < marks.emitted)
            text = bytes(ending.consumed[MARKS.size :]).decode()
            payload, ended = bytes(ending.state), ending.time_ms / 1000
            yield Finished(id, ending.epoch, BY_KIND[ending.kind], payload, text, marks.emitted, items, ended)


def transfer_from(found: Recovered) -> Transfer | None:
    """What one log knows of a coroutine, ready to be handed on; None when it holds no state that could go on."""
    latest = found.latest
    if latest is None:
        return None
    if latest.kind is not Kind.CHECKPOINT:
        transfer = Transfer.decode(bytes(latest.state))
    else:
        origin = found.adopted or found.admitted
        if origin is None:
            # It has ended: compaction, which goes by partitions, lets go of the adoption before the last checkpoints.
            return None
        consumed = Consumed.unpack(latest.consumed)
        transfer = replace(
            Transfer.decode(bytes(origin.state)),
            form="frames",
            state=bytes(latest.state),
            seq=latest.seq,
            marks=Marks(consumed.events, consumed.emitted, consumed.read),
        )
    return replace(
        transfer,
        epoch=latest.epoch,
        events=joined(transfer.events, found.events, above=transfer.marks.events),
        items=joined(transfer.items, found.items, above=transfer.marks.read - 1),
    )


def state_to_follow(found: Recovered | None, epoch: int, known: Transfer | None) -> Transfer | None:
    """The state that goes where a sealed log's plan says: what the log holds, if the coroutine was adopted there at the
    map's `epoch` or later. Else what is `known`: an earlier stay there has left what is out of date, though its place
    may be the same."""
    logged = None if found is None else transfer_from(found)
    here = found is not None and found.adopted is not None and found.adopted.epoch >= epoch
    return logged if here or known is None else known


def joined(carried: Iterable[tuple[int, bytes]], logged: Iterable[Record], above: int) -> tuple[tuple[int, bytes], ...]:
    """Numbered payloads that came with a transfer and those logged since, each once, those up to `above` left out."""
    merged = {**dict(carried), **{record.seq: bytes(record.state) for record in logged}}
    return tuple(sorted((number, payload) for number, payload in merged.items() if number > above))


def newest_transfer(id: str, recoveries: Mapping[str, Recovery]) -> Transfer | None:
    """The newest state of a coroutine over all logs, by (epoch, seq); of equals the one that has taken more events in
    (an admission and its adoption stand at one place, and only the adopter's log has what came since)."""
    found = [transfer_from(r.coroutines[id]) for r in recoveries.values() if id in r.coroutines]
    return max((t for t in found if t is not None), key=lambda t: (t.epoch, t.seq, *newest_numbers(t)), default=None)


def newest_numbers(transfer: Transfer) -> tuple[int, int]:
    """The highest numbers of event and item that a transfer knows of."""
    events = max([transfer.marks.events, *(number for number, _ in transfer.events)])
    return events, max([transfer.marks.read, *(index + 1 for index, _ in transfer.items)])
