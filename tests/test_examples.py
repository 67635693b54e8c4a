"""The demo's own functions: plain, durable, and carried from process to process at every yield, they agree."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from ray_durable.compiler import durable

EXAMPLES = Path(__file__).parent.parent / "examples"

GO_ON = """
import pickle, sys
generator = pickle.load(sys.stdin.buffer)
try:
    answer = "yielded", next(generator), generator
except StopIteration as stop:
    answer = "returned", stop.value, None
sys.stdout.buffer.write(pickle.dumps(answer))
"""


@pytest.fixture
def source_index(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import source_index

    return source_index


def drain(generator):
    """What a generator yields, then what it returns."""
    yielded = []
    while True:
        try:
            yielded.append(next(generator))
        except StopIteration as stop:
            return yielded, stop.value


def test_plain_durable_and_carried_between_processes_agree(source_index):
    paths = source_index.source_files(EXAMPLES)[:3]
    assert len(paths) == 3
    plain = drain(source_index.index_files(paths))
    assert len(plain[0]) == 6
    compiled = durable(source_index.index_files)
    assert drain(compiled(paths)) == plain

    yielded, generator = [], compiled(paths)
    for _ in range(7):
        done = subprocess.run(
            [sys.executable, "-c", GO_ON],
            input=pickle.dumps(generator),
            capture_output=True,
            check=True,
            env={"PYTHONPATH": f"{EXAMPLES}:{EXAMPLES.parent}"},
        )
        kind, value, generator = pickle.loads(done.stdout)
        if kind == "returned":
            break
        yielded.append(value)
    assert (yielded, value) == plain


def test_an_index_of_parts_is_the_index_of_the_whole(source_index):
    paths = source_index.source_files(EXAMPLES)
    whole = source_index.in_one_process(paths)
    parts = [drain(source_index.index_files([path]))[1] for path in paths]
    assert source_index.merged(parts) == whole
    assert whole["files"] == len(paths)


def test_files_that_are_no_python_count_as_text(source_index, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("def (:\n    'unclosed")
    assert source_index.in_one_process([str(broken)])["tokens"] == {}
