"""Who owns a coroutine: a pure fold over what the logs say.

A coroutine moves by durable plans only: the placement of its admission, a `moved` in the log of its owner, or the plan
in a seal. Of all plans the one with the highest epoch counts; it is carried out once its target has committed
`adopted` at that epoch. Until then it is a *debt*: whoever leads must hand the coroutine to the target, or, when the
target's log is sealed, plan anew in that seal. Nothing here asks a clock, a store or Ray.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["Fact", "Owned", "Plan", "decode_plans", "encode_plans", "fold", "live_in", "plan_takeover", "still_owed"]

FactKind = Literal["admitted", "planned", "adopted", "terminal"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Coroutine goes to the incarnation `to` at `epoch`; an empty `to` means: nobody can run it yet."""

    epoch: int
    to: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that some log says of one coroutine. `at` is the log's writer, for a plan its target."""

    coroutine: str
    kind: FactKind
    epoch: int
    at: str = ""


@dataclass(frozen=True, slots=True)
class Owned:
    """What all facts together say of one coroutine."""

    plan: Plan = Plan(0, "")
    adopted_epoch: int = 0
    admitted: bool = False
    terminal: bool = False

    @property
    def running(self) -> bool:
        """Its owner has taken it: the plan is carried out."""
        return not self.terminal and self.adopted_epoch == self.plan.epoch > 0

    @property
    def debt(self) -> bool:
        """It is planned to go somewhere and has not arrived, or has nowhere to go yet."""
        return not self.terminal and self.adopted_epoch < self.plan.epoch


def fold(facts: Iterable[Fact]) -> dict[str, Owned]:
    """Each coroutine's ownership. The order of the facts does not matter, nor does meeting one twice."""
    found: dict[str, Owned] = {}
    for fact in facts:
        owned = found.get(fact.coroutine, Owned())
        match fact.kind:
            case "admitted":
                owned = replace(owned, admitted=True)
            case "planned":
                if fact.epoch > owned.plan.epoch:
                    owned = replace(owned, plan=Plan(fact.epoch, fact.at))
            case "adopted":
                if fact.epoch > owned.adopted_epoch:
                    owned = replace(owned, adopted_epoch=fact.epoch)
                if fact.epoch > owned.plan.epoch:  # its plan may be compacted away; the adoption proves it
                    owned = replace(owned, plan=Plan(fact.epoch, fact.at))
            case "terminal":
                owned = replace(owned, terminal=True)
        found[fact.coroutine] = owned
    return found


def live_in(facts: Iterable[Fact], writer: str) -> dict[str, int]:
    """The coroutines that `writer`'s own log says it still owns, each with its epoch: adopted there, not finished, and
    not planned away at a higher epoch."""
    return {
        coroutine: owned.adopted_epoch
        for coroutine, owned in fold(facts).items()
        if owned.adopted_epoch and not owned.terminal and owned.plan.epoch <= owned.adopted_epoch
    }


def still_owed(debts: Mapping[str, int], facts: Iterable[Fact]) -> dict[str, int]:
    """Of the plans that had a log's writer as their target (coroutine → epoch), those that it has not carried out: its
    log shows no adoption at that epoch, nor what can only follow from one: an end, or a move on. What it says of lower
    epochs is of an earlier stay there, and says nothing."""
    known = fold(facts)
    return {id: epoch for id, epoch in debts.items() if id not in known or not has_carried_out(known[id], epoch)}


def has_carried_out(owned: Owned, epoch: int) -> bool:
    """Whether a log that says this of a coroutine has carried out the plan of that epoch."""
    return owned.terminal or max(owned.adopted_epoch, owned.plan.epoch) >= epoch


def plan_takeover(live: Mapping[str, int], debts: Mapping[str, int], place: Callable[[str], str]) -> dict[str, Plan]:
    """The plan for a seal: everything that the sealed log owns, and every debt that was on its way there (coroutine →
    epoch of that plan), goes to where `place` says, one epoch up."""
    epochs = dict(debts)
    for coroutine, epoch in live.items():
        epochs[coroutine] = max(epoch, epochs.get(coroutine, 0))
    return {coroutine: Plan(epoch + 1, place(coroutine)) for coroutine, epoch in sorted(epochs.items())}


def encode_plans(plans: Mapping[str, Plan]) -> bytes:
    return json.dumps({coroutine: [plan.epoch, plan.to] for coroutine, plan in plans.items()}).encode()


def decode_plans(data: bytes) -> dict[str, Plan]:
    return {coroutine: Plan(epoch, to) for coroutine, (epoch, to) in json.loads(data or b"{}").items()}
