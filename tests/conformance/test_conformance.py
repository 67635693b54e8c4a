"""Other people's code does what it did when it is durable: the runner, and a few modules small enough for every run."""

from __future__ import annotations

import contextlib
import gc
import inspect
import io
import sys
import traceback
import types
import warnings
import weakref
from importlib.machinery import SourceFileLoader

import pytest

from ray_durable.testing import conformance, conforming, hiding, renewal
from ray_durable.testing.conformance import Comparison
from ray_durable.testing.runs import Run, progress
from ray_durable.testing.suites import Target

SMALL = ["contextlib", "graphlib", "difflib"]


@pytest.mark.parametrize("name", SMALL)
def test_no_test_of_it_fails_only_when_durable(name):
    try:
        target = conformance.target_of(name, None)
    except LookupError as missing:
        pytest.skip(str(missing))
    found = conformance.compare(target, timeout_s=100)
    assert found.before.outcomes, found.before.error
    assert found.after.error == ""
    assert found.regressions == []
    assert found.after.counts["functions"] > 0


def test_a_test_that_fails_only_when_durable_is_named(capsys):
    target = Target("m", "m.tests", "pytest", ("m",))
    before = Run({"a": "passed", "b": "failed", "c": "passed", "d": "skipped", "e": "passed"})
    after = Run({"a": "passed", "b": "passed", "c": "failed", "d": "skipped"}, {"functions": 2, "refused: x": 1})
    found = Comparison(target, before, after)
    assert found.regressions == ["c", "e"]
    assert found.row() == ["m", "3", "1", "2", "1", "2", "2", "1", "0", "0"]
    conformance.show(found, verbose=False)
    said = capsys.readouterr().err
    assert "only when durable: c" in said
    assert "only when durable: 1 tests were not there: e, …" in said


FLAKY = """
import pathlib, pytest

tries = pathlib.Path(__file__).with_name("tries")

def test_that_fails_the_second_time():
    with tries.open("a") as lines:
        lines.write("x")
    assert len(tries.read_text()) != 2

def test_that_tells_them_apart():
    def native():
        yield
    assert native.__code__.co_varnames == ()

@pytest.mark.parametrize("n", [1, 2])
def test_that_never_fails(n):
    pass
"""


def test_a_test_that_differs_is_tried_again_by_itself(tmp_path, monkeypatch, capsys):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_flaky.py").write_text(FLAKY)
    target = Target("flaky", str(tmp_path / "tests"), "pytest", ("flaky",), str(tmp_path / "tests"))
    found = conformance.compare(target, timeout_s=60)
    differs = "tests/test_flaky.py::test_that_tells_them_apart"
    assert found.regressions == [differs], found.after.error
    assert found.again.outcomes == {differs: "failed", "tests/test_flaky.py::test_that_fails_the_second_time": "passed"}
    assert found.row()[1:6] == ["4", "0", "3", "1", "1"]
    conformance.show(found, verbose=False)
    assert "passed when tried again: tests/test_flaky.py::test_that_fails_the_second_time" in capsys.readouterr().err


RENAMED = """
import time, pytest

@pytest.mark.parametrize("moment", [time.time_ns()])
def test_named_after_the_time(moment):
    pass

def test_that_stays():
    pass
"""


def test_a_test_with_another_name_in_each_run_is_no_difference(tmp_path, capsys):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_renamed.py").write_text(RENAMED)
    target = conformance.target_of("graphlib", str(tmp_path / "tests"))
    found = conformance.compare(target, timeout_s=60)
    assert len(found.renamed) == 1
    assert found.regressions == []
    assert found.row()[1:6] == ["2", "0", "2", "0", "0"]
    conformance.show(found, verbose=False)
    assert "1 tests have another name in each run: tests/test_renamed.py::test_named" in capsys.readouterr().err


def test_of_tests_with_other_names_those_that_fail_count():
    target = Target("m", "m.tests", "pytest", ("m",))
    found = Comparison(
        target, Run({"a1": "passed", "b": "failed"}), Run({"a2": "failed", "b": "failed"}), renamed=frozenset({"a1"})
    )
    assert found.regressions == ["a2"]


def test_progress_is_one_line_however_long_a_name_is(tmp_path):
    report = tmp_path / "report.json"
    assert progress("m, plain", report, 80).plain == "m, plain: 0 tests, starting"
    report.write_text('{"outcomes": {"a": "passed"}}\n')
    report.with_suffix(".running").write_text("b" * 100)
    line = progress("m, plain", report, 80).plain
    assert line == "m, plain: 1 tests, " + "b" * 60 + "…"


def test_a_run_of_no_tests_is_no_success(tmp_path, capsys):
    (tmp_path / "test_nothing.py").write_text("")
    assert conformance.main(["nothing_at_all", "--tests", str(tmp_path)]) == 1
    assert "nothing_at_all, plain: no result\nno tests were run" in capsys.readouterr().err


def test_modules_without_tests_are_refused_by_name(capsys):
    assert conformance.main(["no_such_module_at_all"]) == 1
    assert "no_such_module_at_all: it is not installed" in capsys.readouterr().err


def test_renewed_functions_keep_their_kind_and_are_really_renewed():
    def counting(n):
        """Counts."""
        got = []
        for i in range(n):
            got.append((yield i))
        return got

    before = renewal.COUNTS["renewed"]
    renewed = renewal.renewing(counting)
    assert renewed.__doc__ == "Counts."
    assert renewed.__code__.co_flags & inspect.CO_GENERATOR
    gen = renewed(3)
    assert isinstance(gen, types.GeneratorType)
    assert [next(gen), gen.send("a"), gen.send("b")] == [0, 1, 2]
    with pytest.raises(StopIteration) as stop:
        gen.send("c")
    assert stop.value.value == ["a", "b", "c"]
    assert renewal.COUNTS["renewed"] - before >= 3


def test_a_driver_looks_like_the_function_that_it_stands_for():
    def original(a, /, b, *rest, c=3, **more):
        yield a, b, rest, c, more, here

    here = "a cell"
    original.own = "attribute"
    renewed = renewal.renewing(original)
    assert inspect.signature(renewed) == inspect.signature(original)
    assert renewed.__dict__ == {"own": "attribute"}
    assert renewed.__closure__ == original.__closure__
    assert inspect.getsource(renewed) == inspect.getsource(original)
    gen = renewed(1, 2, 4, d=5)
    assert inspect.getgeneratorlocals(gen) == {
        "a": 1, "b": 2, "rest": (4,), "c": 3, "more": {"d": 5}, "here": "a cell",
    }  # fmt: skip
    assert next(gen) == (1, 2, (4,), 3, {"d": 5}, "a cell")
    with pytest.raises(TypeError, match=r"original\(\) missing 1 required positional argument: 'b'"):
        renewed(1)


def test_functions_inside_are_renewed_too():
    @renewal.renewing
    def outer(n):
        @contextlib.contextmanager
        def counting():
            nonlocal n
            n += 1
            yield n

        for _ in range(2):
            with counting() as number:
                yield number

    before = renewal.COUNTS["renewed"]
    assert list(outer(5)) == [6, 7]
    assert renewal.COUNTS["renewed"] - before == 4


def test_what_only_passes_values_on_is_not_replaced_for_each():
    @renewal.renewing
    def inner():
        yield from range(3)

    @renewal.renewing
    def outer():
        got = yield "before"
        yield from inner()
        yield from inner()
        yield got

    before = renewal.COUNTS["renewed"]
    steps = outer()
    assert [next(steps), steps.send("got"), *steps] == ["before", *range(3), *range(3), "got"]
    assert renewal.COUNTS["renewed"] - before == 2 * 3 + 4  # of `inner` at each value, of `outer` where it ran


def test_what_is_delegated_to_is_closed_by_nobody_else():
    @renewal.renewing
    def lines(text):
        yield from io.StringIO(text)

    assert list(lines("a\nb\nc\n")) == ["a\n", "b\n", "c\n"]


def test_drivers_stay_out_of_tracebacks():
    @renewal.renewing
    def inner():
        yield 1
        raise KeyError("raised")

    @renewal.renewing
    async def outer():
        return await types.coroutine(inner)()

    steps = outer()
    steps.send(None)
    with pytest.raises(KeyError) as found:
        steps.send(None)
    assert [frame.name for frame in traceback.extract_tb(found.value.__traceback__)][1:] == ["outer", "inner"]


def test_what_is_awaited_stays_the_same_object_and_is_closed_once():
    ended = []

    @types.coroutine
    @renewal.renewing
    def inner():
        try:
            yield 1
            yield 2
        finally:
            ended.append("inner")

    @renewal.renewing
    async def stepping():
        await inner()
        yield 3

    @renewal.renewing
    async def outer():
        try:
            async for each in stepping():
                await held
                return each
        finally:
            ended.append("outer")

    before = renewal.COUNTS["renewed"]
    held = inner()
    steps = outer()
    assert [steps.send(None), steps.send(None), steps.send(None)] == [1, 2, 1]
    assert held.gi_suspended
    assert renewal.COUNTS["renewed"] - before == 7  # twice inner and outer, once stepping, once more both
    steps.close()
    assert ended == ["inner", "inner", "outer"]
    assert held.gi_frame is None


def delayed(items):
    held = [next(items)]
    for number, item in enumerate(items):
        if number % 2:
            held.pop()
        else:
            yield held.pop()
        held.append(item)


def test_nothing_lives_longer_than_natively():
    class Item:
        pass

    def alive_after_each_step(function):
        made = [Item() for _ in range(7)]
        known = [weakref.ref(each) for each in made]
        steps = function(iter_that_lets_go(made))
        return [[each() is not None for each in known] for _ in map(id, steps)]

    def iter_that_lets_go(items):
        while items:
            yield items.pop(0)

    natively = alive_after_each_step(delayed)
    assert natively[-1] != natively[0]
    assert alive_after_each_step(renewal.renewing(delayed)) == natively


class SlowToEnd:
    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, traceback):
        del error, traceback
        await pause()


@types.coroutine
def pause():
    yield


async def raising():
    try:
        async with SlowToEnd():
            raise KeyError
    except KeyError as error:
        return len(gc.get_referrers(error))


def test_what_was_replaced_holds_nothing_though_a_traceback_holds_its_frame():
    def result(steps):
        steps.send(None)
        with pytest.raises(StopIteration) as stop:
            steps.send(None)
        return stop.value.value

    assert result(renewal.renewing(raising)()) == result(raising())


def test_warnings_are_blamed_on_who_drives_a_driver():
    @renewal.renewing
    def warning():
        past = hiding.warning_past_drivers(warnings.warn)
        past("of itself")
        past("of its caller", stacklevel=2)
        yield

    with pytest.warns(UserWarning) as found:
        line = sys._getframe().f_lineno + 1
        next(warning())
    assert [each.filename for each in found] == [__file__, __file__]
    assert found[0].lineno < found[1].lineno == line


def test_the_import_hook_leaves_lines_and_other_functions_as_they_are(tmp_path, monkeypatch):
    (tmp_path / "hooked_module.py").write_text("def plain():\n    return 1\n\n\ndef gen():\n    yield __name__\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    taken = conforming.Taken(("hooked_module",))
    monkeypatch.setattr(SourceFileLoader, "get_code", conforming.hook(taken), raising=False)
    monkeypatch.setattr("builtins." + conforming.DECORATOR, renewal.renewing, raising=False)
    import hooked_module

    assert hooked_module.plain.__code__.co_firstlineno == 1
    assert hooked_module.gen.__code__.co_firstlineno == 5
    assert list(hooked_module.gen()) == ["hooked_module"]
