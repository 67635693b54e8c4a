"""Ordinary programs: with a capture and restore at every yield point they do what they do natively, event by event."""

import importlib
import inspect
import sys

import pytest

from tests.compiler.programs import asynchronous, awaited, expressions, handlers, plain, statements
from tests.compiler.roundtrip import run, same, scripts

MODULES = [asynchronous, awaited, expressions, handlers, plain, statements]
MODULES += [  # they do not compile before
    importlib.import_module(f"tests.compiler.programs.since_3{minor}")
    for minor in (12, 13)
    if sys.version_info >= (3, minor)
]
PROGRAMS = [
    pytest.param(function, id=f"{module.__name__.rpartition('.')[2]}.{name}")
    for module in MODULES
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__
    and list(inspect.signature(function).parameters) in (["log"], ["log", "rest", "key", "more"])
    and "__durable__" not in vars(function)
]


# a coroutine that an exception overtakes is not awaited, natively too
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("program", PROGRAMS)
def test_program_behaves_as_natively_with_a_restore_at_every_yield_point(program):
    yields = run(program, lambda n, value: n, False).yields
    assert yields > 0
    for reply in scripts(yields):
        same(program, reply)
