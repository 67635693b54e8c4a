"""Random programs behave as natively, event by event, with restores at all and at random yield points."""

import os
import random
import sys

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from ray_durable.errors import UnsupportedSyntaxError
from tests.compiler import roundtrip
from tests.compiler.random_programs import Program, load
from tests.compiler.roundtrip import cut_short, difference, durable_of, run, without_lines

KINDS = ("generator", "coroutine", "async_generator", "plain")
PROGRAMS = int(os.environ.get("RAY_DURABLE_RANDOM_PROGRAMS", "500"))  # of each kind; 10 ms each
SEED = int(os.environ.get("RAY_DURABLE_RANDOM_SEED", "1"))
EXAMPLES = 40  # of each kind, by hypothesis, which shrinks what fails
YIELDS_MAX = 60


class Stop(BaseException):
    """Ends a run that grows too long."""


def check(text: str, name: str, chance: random.Random) -> None:
    """Compare a native run of a program with durable ones, under a random script of answers."""
    try:
        function = load(text, name)
    except SyntaxError:
        return  # a few combinations are no Python
    try:
        durable_of(function)
    except UnsupportedSyntaxError as refused:
        assert "nested blocks" in str(refused)
        return
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
        exact = without_lines if sys.version_info < (3, 12) and "pause(" in text else list
        seen = exact(cut_short(fresh.events, native.events))
        assert seen == exact(native.events), difference("fresh", native.events, fresh.events)
        expected = comparable(native.events, text)
        everywhere = run(function, reply, True, lambda n: True)
        assert comparable(everywhere.events, text) == expected, difference(
            "restored", expected, comparable(everywhere.events, text)
        )
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
    text = Program(Choices(choices), kind).text()
    note(text)
    check(text, f"<random {kind} {choices.hex()}>", random.Random(chance))


def depth_of(seed: int) -> int:
    """How deeply a program is nested: most are small, so that there are thousands of them."""
    return 3 if seed % 100 == 0 else 2 if seed % 20 == 0 else 1


@QUIET
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_random_programs_behave_as_natively(kind):
    """To repeat one: RAY_DURABLE_RANDOM_SEED=<its seed> RAY_DURABLE_RANDOM_PROGRAMS=1."""
    run_seeds(kind, SEED, PROGRAMS)


@pytest.mark.chaos
@QUIET
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(1200)
def test_programs_that_nobody_has_run_before_behave_as_natively(kind):
    run_seeds(kind, random.SystemRandom().randrange(10**9), 10 * PROGRAMS)


def run_seeds(kind: str, first: int, count: int) -> None:
    print(f"{kind}: seeds {first} to {first + count - 1}")
    for seed in range(first, first + count):
        chance = random.Random(seed)
        text = Program(chance.randrange, kind).text(depth_of(seed))
        try:
            check(text, f"<random {kind} {seed}>", chance)
        except BaseException as error:
            error.add_note(f"RAY_DURABLE_RANDOM_SEED={seed}, {kind}\n{text}")
            raise
