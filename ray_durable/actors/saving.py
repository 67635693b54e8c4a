"""Checkpoints: what is gathered into the log when branches have stepped.

A coroutine of one branch is saved at each of its steps. A checkpoint of one with several holds them all, so that those
which step in one turn share one, made at the turn's end: else a `gather` of a thousand would write a million frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_durable.actors.hosted import Hosted
from ray_durable.actors.tally import TIMED_ONE_OF
from ray_durable.checkpoint.record import Kind
from ray_durable.operations import Emit
from ray_durable.runner import Branch

if TYPE_CHECKING:
    from ray_durable.actors.engine import Engine

__all__ = ["Together", "save", "save_together"]


class Together(list[Branch]):
    """Branches that wait for the same checkpoint."""


def save(engine: Engine, branch: Branch) -> None:
    """Gather a checkpoint, now or at the end of this turn; the branch's request is carried out once it is durable."""
    coroutine = branch.coroutine
    hosted: Hosted = coroutine.host
    item = None
    if type(branch.request) is Emit:
        try:
            item = hosted.emit(branch)
        except Exception as refusal:
            refuse(engine, branch, refusal)
            return
    elif coroutine.others:
        engine.unsaved.setdefault(coroutine, []).append(branch)
        return
    before = branch.at, branch.derived
    branch.at, branch.derived = coroutine.seq + 1, 0
    try:
        state = state_of(engine, hosted)
    except Exception as refusal:  # CannotSaveError, or what a user's own reducer raises: either way at this yield
        if item is not None:
            hosted.items.pop()
            hosted.marks.emitted -= 1
        branch.at, branch.derived = before
        refuse(engine, branch, refusal)
        return
    if item is not None:
        engine.tally.items += 1
        engine.log.append(coroutine.id, hosted.epoch, item[0], Kind.ITEM, item[1])
    gather(engine, hosted, state, branch)


def state_of(engine: Engine, hosted: Hosted) -> bytes:
    """The coroutine's state. Raises: CannotSaveError, or what a user's own reducer raises."""
    if hosted.coroutine.seq % TIMED_ONE_OF:
        return hosted.state(engine.log.chunks)
    return engine.tally.timed(lambda: hosted.state(engine.log.chunks))


def gather(engine: Engine, hosted: Hosted, state: bytes, token: Branch | Together) -> None:
    """Put a checkpoint into the log."""
    coroutine = hosted.coroutine
    coroutine.seq += 1
    marks = b"" if hosted.plain else hosted.marks.pack()
    if hosted.last is not None:
        hosted.saved(state)
    engine.tally.turn[hosted.header.function].append(len(state))
    engine.log.append(coroutine.id, hosted.epoch, coroutine.seq, Kind.CHECKPOINT, state, token, marks, hosted.codec)


def refuse(engine: Engine, branch: Branch, refusal: Exception) -> None:
    """What it asks for is not carried out: the error is raised at its yield point instead."""
    engine.tally.cannot_save(branch.coroutine.host.header.function)
    engine.wake(branch, None, refusal)


def save_together(engine: Engine) -> None:
    """At the end of a turn: one checkpoint for each coroutine with branches that are not saved yet."""
    unsaved, engine.unsaved = engine.unsaved, {}
    for coroutine, branches in unsaved.items():
        hosted = coroutine.host
        if hosted is None:
            continue  # it has ended, or begins again
        before = [(branch.at, branch.derived) for branch in branches]
        for branch in branches:
            branch.at, branch.derived = coroutine.seq + 1, 0
        try:
            state = state_of(engine, hosted)
        except Exception as refusal:
            for branch, numbers in zip(branches, before, strict=True):
                branch.at, branch.derived = numbers
            refuse_some(engine, hosted, branches, refusal)
        else:
            gather(engine, hosted, state, Together(branches))


def refuse_some(engine: Engine, hosted: Hosted, branches: list[Branch], refusal: Exception) -> None:
    """Have those of `branches` told that cannot be saved, and the others saved when they have gone on."""
    reasons = {branch: reason for branch in branches if (reason := hosted.reason_against(branch)) is not None}
    others = hosted.coroutine.branches()
    told_before = [each for each in others if each not in branches and not each.parked and not awaits_foreign(each)]
    if not reasons and all(hosted.reason_against(each) is None for each in told_before):
        reasons = dict.fromkeys(branches, refusal)  # it is no branch that is about to go on
    rest = [branch for branch in branches if branch not in reasons]
    for branch, reason in reasons.items():
        refuse(engine, branch, reason)
    if rest:
        engine.unsaved[hosted.coroutine] = rest
        engine.schedule()


def awaits_foreign(branch: Branch) -> bool:
    return branch.driver is not None and bool(branch.driver.foreign)
