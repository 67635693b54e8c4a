"""A process that writes or reads pickled programs: how one Python version hands frames to another.

python crossing.py write FILE    every program, pickled at every yield point, and what it then must still do
python crossing.py read FILE     goes on with each, and prints as JSON those that did something else
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import pickled_programs as programs

from ray_durable.compiler import discard, references


def write(path: str) -> None:
    entries = []
    for name, make in programs.PROGRAMS.items():
        whole = programs.drive(make())
        for step in range(len(whole)):
            obj = make()
            done = programs.drive(obj, step)
            entries.append((name, step, references.dumps(obj), whole[len(done) :]))
            discard(obj)
    Path(path).write_bytes(pickle.dumps(entries))


def read(path: str) -> None:
    wrong = []
    for name, step, data, expected in pickle.loads(Path(path).read_bytes()):
        discard(programs.PROGRAMS[name]())  # what making one registers is needed here too
        try:
            got = programs.drive(pickle.loads(data), start=step)
        except Exception as error:
            got = [f"failed: {error!r}"]
        if got != expected:
            wrong.append((name, step, expected, got))
    print(json.dumps(wrong))


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](sys.argv[2])
