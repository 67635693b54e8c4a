"""Random programs behave as natively, event by event, with restores at all and at random yield points."""

import os
import random
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from ray_durable.compiler import twin_of
from ray_durable.compiler.backedges import DUE
from ray_durable.errors import UnsupportedSyntaxError
from tests.compiler import roundtrip
from tests.compiler.random_parts import Boom, Halt
from tests.compiler.random_programs import Program, load
from tests.compiler.roundtrip import Close, Events, Reply, cut_short, difference, durable_of, run, without_lines
from tests.compiler.through_pickle import Trips

KINDS = ("generator", "coroutine", "async_generator", "plain", "looping")
COUNTS = {"generator": 1000, "coroutine": 350, "async_generator": 350, "plain": 250, "looping": 50}  # 6 to 90 ms each
PROGRAMS = int(os.environ.get("RAY_DURABLE_RANDOM_PROGRAMS", "0"))  # of each kind, instead
SEED = int(os.environ.get("RAY_DURABLE_RANDOM_SEED", "1"))
EXAMPLES = 15  # of each kind, by hypothesis, which shrinks what fails
YIELDS_MAX = 60
THROWN = (ValueError, KeyError, RuntimeError, Boom, Halt, StopIteration, StopAsyncIteration, GeneratorExit)


TRIPS = Trips()


class Stop(BaseException):
    """Ends a run that grows too long."""


def script(chance: random.Random, can_be_closed: bool) -> Reply:
    """How a program is answered: numbers; here and there an exception; perhaps it is closed at one place."""
    throws = {at: chance.choice(THROWN) for at in range(1, 20) if chance.random() < 0.06}
    close_at = chance.choice([0, 0, 0, *range(1, 8)])
    seed = chance.random()

    def reply(count: int, value: Any) -> Any:
        if count > YIELDS_MAX:
            return Stop()
        if count == close_at:
            can_close = can_be_closed and not (isinstance(value, tuple) and value[:1] == ("inner",))
            return Close() if can_close else Halt()
        error = throws.get(count)
        if not can_be_closed and error in (GeneratorExit, StopIteration):
            error = ValueError  # what a host throws into a function that it suspended is neither
        return int(seed * 1000 * count) % 5 if error is None else error(f"thrown {count}")

    return reply


def check(text: str, name: str, kind: str, chance: random.Random, scripts: int = 2) -> None:
    """Compare native runs of a program with durable ones, under random scripts of answers."""
    function = load(text, name)
    back_edges = kind == "looping"
    can_be_closed = not re.search(r"pause|child", text.partition("program(")[2])
    try:
        durable_of(function)
        if back_edges:
            twin_of(durable_of(function), back_edges=True)
    except UnsupportedSyntaxError as refused:
        assert "nested blocks" in str(refused)
        return
    exact = without_lines if sys.version_info < (3, 12) and "pause" in text.partition("program(")[2] else list
    DUE.on = False
    try:
        for _ in range(scripts):
            reply, wanted = script(chance, can_be_closed), chance.random()
            native = run(function, reply, False)
            fresh = run(function, reply, True)
            expected = comparable(exact(native.events), text)
            seen = comparable(exact(cut_short(fresh.events, native.events)), text)
            assert seen == expected, difference("fresh", expected, seen)
            expected = without_lines(expected)
            some = lambda n, wanted=wanted: (n * 7919 * wanted) % 1 < 0.3
            plans: dict[str, tuple[Callable[[int], bool], Trips | None]] = {
                "restored": (lambda n: True, None),
                "pickled": (lambda n: True, TRIPS),
                "restored at some": (some, TRIPS if wanted < 0.5 else None),
            }
            for what, (plan, round_trip) in plans.items():
                if round_trip is not None and "locals()" in text:  # those of a restored function are what it names
                    continue
                got = run(function, reply, True, plan, back_edges=back_edges, round_trip=round_trip)
                seen = comparable(without_lines(got.events), text)
                assert seen == expected, difference(what, expected, seen)
    finally:
        DUE.on = False
        roundtrip.MADE.pop(id(function), None)
        TRIPS.kept.clear()


def comparable(events: Events, text: str) -> Events:
    """CPython keeps the rest of a group on the stack of `except*`, and with it a traceback and its frames: what those
    hold goes only with the next collection."""
    if "except*" not in text:
        return events
    return [each for each in events if not (each[0] == "log" and each[1].strip("'") in CLOSINGS)]


CLOSINGS = ("source closed", "base steps", "asteps closed")


QUIET = pytest.mark.filterwarnings(
    "ignore:coroutine .* was never awaited", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::SyntaxWarning"
)


class Choices:
    """Picks from hypothesis' bytes, and the simplest once they are used up: so a failure shrinks to a small program."""

    def __init__(self, data: bytes) -> None:
        self.left = iter(data)

    def __call__(self, below: int) -> int:
        return next(self.left, 0) % below


@QUIET
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(choices=st.binary(max_size=400), chance=st.integers(0, 99))
def test_random_program_behaves_as_natively(kind, choices, chance):
    text = Program(Choices(choices), kind).text(2)
    note(text)
    check(text, f"<random {kind} {choices.hex()}>", kind, random.Random(chance))


def depth_of(seed: int) -> int:
    """How deeply a program is nested: most are small, so that there are thousands of them."""
    return 3 if seed % 100 == 0 else 2 if seed % 4 == 0 else 1


def depth_in_a_long_run(seed: int) -> int:
    return 3 if seed % 10 == 0 else 2


@QUIET
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_random_programs_behave_as_natively(kind):
    """To repeat one, here or below: RAY_DURABLE_RANDOM_SEED=<its seed> RAY_DURABLE_RANDOM_PROGRAMS=1."""
    run_seeds(kind, SEED, PROGRAMS or COUNTS[kind], depth_of)


@pytest.mark.chaos
@QUIET
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(1200)
def test_programs_that_nobody_has_run_before_behave_as_natively(kind):
    first = SEED if SEED != 1 else random.SystemRandom().randrange(10**9)
    run_seeds(kind, first, PROGRAMS or 8 * COUNTS[kind], depth_in_a_long_run)


def run_seeds(kind: str, first: int, count: int, depth: Callable[[int], int]) -> None:
    print(f"{kind}: seeds {first} to {first + count - 1}")
    for seed in range(first, first + count):
        chance = random.Random(seed)
        text = Program(chance.randrange, kind).text(depth(seed))
        try:
            check(text, f"<random {kind} {seed}>", kind, chance, scripts=1 if depth(seed) == 1 else 2)
        except BaseException as error:
            error.add_note(f"RAY_DURABLE_RANDOM_SEED={seed}, {kind}\n{text}")
            raise
    assert TRIPS.made > count / 10, "many states can be pickled"
