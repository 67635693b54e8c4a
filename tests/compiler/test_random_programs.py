"""Random programs behave as natively, event by event, with restores at all and at random yield points."""

import os
import random

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.compiler import roundtrip
from tests.compiler.random_programs import Program, load
from tests.compiler.roundtrip import difference, run, without_lines

KINDS = ("generator", "coroutine", "async_generator", "plain")
PROGRAMS = int(os.environ.get("RAY_DURABLE_RANDOM_PROGRAMS", "25"))  # of each kind
YIELDS_MAX = 60


class Stop(BaseException):
    """Ends a run that grows too long."""


def check(text: str, name: str, chance: random.Random) -> None:
    """Compare a native run of a program with durable ones, under a random script of answers."""
    try:
        function = load(text, name)
    except SyntaxError:
        return  # a few combinations are no Python
    throw_at = chance.choice([0, 0, *range(1, 8)])
    error = chance.choice([ValueError, KeyError, RuntimeError])
    seed = chance.random()

    def reply(count, value):
        if count > YIELDS_MAX:
            return Stop()
        return error(f"thrown {count}") if count == throw_at else int(seed * 1000 * count) % 5

    try:
        native = run(function, reply, False)
        fresh = run(function, reply, True)
        assert fresh.events == native.events, difference("fresh", native.events, fresh.events)
        expected = comparable(native.events, text)
        everywhere = run(function, reply, True, lambda n: True)
        assert comparable(everywhere.events, text) == expected, difference(
            "restored", expected, comparable(everywhere.events, text)
        )
        for _ in range(2):
            wanted = chance.random()
            some = run(function, reply, True, lambda n: (n * 7919 * wanted) % 1 < 0.3)
            assert comparable(some.events, text) == expected, difference(
                "restored at some", expected, comparable(some.events, text)
            )
    finally:
        roundtrip.MADE.pop(id(function), None)


def comparable(events, text):
    """CPython keeps the rest of a group on the stack of `except*`, and with it the traceback and frame of an original:
    what its loops hold goes only with the next collection, when a restore was in the same process."""
    events = without_lines(events)
    return [each for each in events if each[:2] != ("log", "'source closed'")] if "except*" in text else events


@pytest.mark.filterwarnings(
    "ignore:coroutine .* was never awaited", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::SyntaxWarning"
)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=PROGRAMS, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(seed=st.integers(0, 2**32))
def test_random_program_behaves_as_natively(kind, seed):
    chance = random.Random(seed)
    text = Program(chance.randrange, kind).text()
    note(f"seed {seed}\n{text}")
    check(text, f"<random {kind} {seed}>", chance)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_random_programs_behave_as_natively(kind):
    first = int(os.environ.get("RAY_DURABLE_RANDOM_SEED", "0"))
    for seed in range(first, first + 1000):
        chance = random.Random(seed)
        text = Program(chance.randrange, kind).text()
        try:
            check(text, f"<random {kind} {seed}>", chance)
        except BaseException as error:
            error.add_note(f"RAY_DURABLE_RANDOM_SEED={seed}, kind {kind}\n{text}")
            raise
