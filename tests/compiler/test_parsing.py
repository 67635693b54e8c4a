"""Source is parsed whatever else is parsed meanwhile."""

import ast
import gc

import pytest

from ray_durable.compiler import parsing

TEXT = "def f(a):\n" + "    if a: x = [a, (a, [a, {a: [a + a * a]}])]\n" * 50


class ParsingAtItsEnd:
    """Garbage in a cycle, whose finalizer parses."""

    def __init__(self):
        self.itself = self

    def __del__(self):
        ast.parse("x = 1")


@pytest.fixture
def eager_collector():
    before = gc.get_threshold()

    def threshold(count):
        gc.set_threshold(count)

    yield threshold
    gc.set_threshold(*before)


def test_a_finalizer_that_parses_does_not_disturb(eager_collector):
    expected = ast.dump(ast.parse(TEXT))
    for count in range(20, 120):
        ParsingAtItsEnd()
        eager_collector(count)
        found = parsing.parse(TEXT)
        eager_collector(700)
        assert ast.dump(found) == expected


def test_other_errors_are_raised_at_once():
    with pytest.raises(SyntaxError):
        parsing.parse("def")
    tried = []

    def failing():
        tried.append(1)
        raise SystemError("something else")

    with pytest.raises(SystemError, match="something else"):
        parsing.again(failing)
    assert len(tried) == 1
