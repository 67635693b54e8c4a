"""Other people's code does what it did when it is durable: the runner, and a few modules small enough for every run."""

from __future__ import annotations

import sys
import types

import pytest

from ray_durable.testing import conformance, conforming, renewal
from ray_durable.testing.conformance import Comparison, Run, Target

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
    assert "only when durable: c" in capsys.readouterr().err


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
    assert renewed.__code__.co_flags & renewal.CO_GENERATOR
    gen = renewed(3)
    assert isinstance(gen, types.GeneratorType)
    assert [next(gen), gen.send("a"), gen.send("b")] == [0, 1, 2]
    with pytest.raises(StopIteration) as stop:
        gen.send("c")
    assert stop.value.value == ["a", "b", "c"]
    assert renewal.COUNTS["renewed"] - before >= 3


def test_the_import_hook_leaves_lines_and_other_functions_as_they_are(tmp_path, monkeypatch):
    (tmp_path / "hooked_module.py").write_text("def plain():\n    return 1\n\n\ndef gen():\n    yield __name__\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", [conforming.Finder(["hooked_module"]), *sys.meta_path])
    monkeypatch.setattr("builtins." + conforming.DECORATOR, renewal.renewing, raising=False)
    import hooked_module

    assert hooked_module.plain.__code__.co_firstlineno == 1
    assert hooked_module.gen.__durable__.original.__code__.co_firstlineno == 5
    assert list(hooked_module.gen()) == ["hooked_module"]
