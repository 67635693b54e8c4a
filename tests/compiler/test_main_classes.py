"""Classes of a script, which no other process can import, go with the frames that hold their objects."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("main_classes.py")


def test_dataclasses_properties_and_the_rest_of_a_scripts_classes_go_with_the_frame():
    written = subprocess.run([sys.executable, SCRIPT], capture_output=True, check=True)
    generator = pickle.loads(written.stdout)
    order, *account = next(generator)
    assert (order.amount, order.notes, account) == (5, ["a"], [6, 9, "Account", 2])
    frozen, point, pair, colour, square, _ = next(generator)
    assert (frozen.amount, tuple(point), pair.b, colour.name) == (1, (1, 2), 2, "RED")
    assert square == "Square, a Shape"
    assert next(generator) == (True, "box", True)
