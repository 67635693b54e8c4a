"""Every program goes on as it would have, after being pickled at any yield point: here, in a new process, and there."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import pytest

from ray_durable.compiler import discard, references
from ray_durable.compiler.backedges import DUE, REQUEST
from tests.compiler import interpreters
from tests.compiler import pickled_programs as programs

CROSSING = Path(__file__).with_name("crossing.py")
DUMPS = {"pickle": pickle.dumps, "references": references.dumps}
ONLY_OURS = {"closures_share_cells", "classes_made_inside"}  # closures in a list: beyond the reach of plain pickle


@pytest.fixture(autouse=True)
def back_edges_of_this_module():
    before = list(REQUEST)
    yield
    REQUEST[:], DUE.on = before, False


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_durable_program_does_what_the_plain_one_does(name):
    make = programs.PROGRAMS[name]
    if not hasattr(make, "__durable__"):
        pytest.skip("it has arguments of its own; its parts are compared elsewhere")
    assert programs.drive(make()) == programs.drive(make.__durable__.original())


@pytest.mark.parametrize("how", DUMPS)
@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_program_pickled_at_every_yield_point_goes_on(name, how):
    if how == "pickle" and name in ONLY_OURS:
        pytest.skip("closures inside a list or of a local class are for references.dumps")
    make, dumps = programs.PROGRAMS[name], DUMPS[how]
    expected = programs.drive(make())
    for step in range(len(expected)):
        obj = make()
        before = programs.drive(obj, step)
        after = programs.drive(pickle.loads(dumps(obj)), start=step)
        discard(obj)
        assert before + after == expected, step


@pytest.mark.parametrize("how", DUMPS)
@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_program_pickled_again_and_again_goes_on(name, how):
    if how == "pickle" and name in ONLY_OURS:
        pytest.skip("closures inside a list or of a local class are for references.dumps")
    make, dumps = programs.PROGRAMS[name], DUMPS[how]
    expected = programs.drive(make())
    obj, got = make(), []
    while len(got) < len(expected):
        again = pickle.loads(dumps(obj))
        twice = pickle.loads(dumps(again))
        discard(obj)
        discard(again)
        obj = twice
        got += programs.drive(obj, 1, start=len(got))
    assert got == expected


def test_frames_cross_to_a_new_process(tmp_path):
    assert crossed(sys.executable, sys.executable, tmp_path) == []


@pytest.mark.parametrize("there", interpreters.VERSIONS)
@pytest.mark.parametrize("here", interpreters.VERSIONS)
def test_frames_cross_from_one_python_version_to_another(here, there, tmp_path):
    if here == there:
        pytest.skip("one version: the test before this")
    writer, reader = interpreters.interpreter(here), interpreters.interpreter(there)
    missing = [version for version, path in ((here, writer), (there, reader)) if path is None]
    if missing:
        pytest.skip(f"no Python {' and no '.join(missing)} on this machine")
    assert crossed(writer, reader, tmp_path) == []


def crossed(writer, reader, directory):
    path = str(directory / "programs.pickle")
    interpreters.run(writer, directory, str(CROSSING), "write", path)
    return json.loads(interpreters.run(reader, directory, str(CROSSING), "read", path))
