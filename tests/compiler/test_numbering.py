"""Frames outlive the compiler that made them: one whose yield points lie elsewhere says so, and none is misread."""

from __future__ import annotations

import ast
import hashlib
import pickle
from pathlib import Path

import pytest

from ray_durable.compiler import durable, identity, pipeline, reading
from ray_durable.compiler.references import dumps
from ray_durable.compiler.unit import Source
from ray_durable.errors import RestoreError

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.name.partition(".")[0] for path in GOLDEN.glob("*.before.py"))
NUMBERS = {
    "async_for": "680f7c4b", "async_with": "1e6e82ad", "branches": "f703f3c2", "calls": "c22c674b",
    "edges": "c0842470", "except_star": "b532025a", "expressions": "9423541b", "finally": "6a26143a",
    "genexps": "9395480e", "guards": "1a2c0366", "handlers": "c9b8c424", "lifetimes": "2baa0afd",
    "loops": "26ab3f23", "managers": "b4bd8313", "resume_async": "fa72578f", "resume_cells": "f852aa26",
    "resume_delegates": "af6bb253", "resume_handler": "e3bea66d", "resume_loop": "28e17019", "resume_loops": "acafd16d",
}  # fmt: skip


def numbers_of(case):
    """A digest of where the function of a golden test is divided, and what is held at each place."""
    text = (GOLDEN / f"{case}.before.py").read_text()
    source = Source(text, "golden", ast.parse(text).body[0].name, f"{case}.py", 1)
    found = []
    for mode in ("native", "twin", "looping"):
        unit = pipeline.compile_source(source, mode)
        for each in (unit, *unit.nested):
            points = [(point.kind, point.temporaries, point.operands) for point in each.points]
            found.append((mode, each.path, each.variables, each.cells_order, points))
    return hashlib.blake2b(repr(found).encode(), digest_size=4).hexdigest()


def test_frames_of_earlier_versions_are_not_misread():
    """Where the numbers of an unchanged function differ, put a new number into `pipeline.NUMBERING`, and those here."""
    assert {case: numbers_of(case) for case in CASES} == NUMBERS


@durable
def counting(n):
    for i in range(n):
        yield i


@pytest.mark.parametrize("where", ["here", "stored", "by value"])
def test_a_frame_of_another_numbering_is_refused_saying_what_to_do(where, monkeypatch):
    def forget():
        pipeline.fingerprint_of.cache_clear()
        identity.key_of.cache_clear()
        identity.CODES.clear()
        reading.MAKERS.clear()

    function = counting if where != "by value" else local()
    made = function(3)
    next(made)
    data = dumps(made)
    source = counting.__durable__.source
    stored = identity.stored_form(identity.Code(identity.key_of(source), source, {}))
    forget()
    monkeypatch.setattr(pipeline, "NUMBERING", (2,))
    monkeypatch.setattr(identity.Settings, "provider", (lambda key: stored) if where == "stored" else None)
    try:
        told = "counting: its (checkpoint is of another version|code has changed)"
        with pytest.raises(RestoreError, match=told) as caught:
            next(pickle.loads(data))
        if where != "here":
            assert "let it end under the version that it began with, or start it anew" in str(caught.value)
    finally:
        monkeypatch.undo()
        forget()
    assert list(pickle.loads(data)) == [1, 2]


def local():
    @durable
    def counting(n):
        for i in range(n):
            yield i

    return counting
