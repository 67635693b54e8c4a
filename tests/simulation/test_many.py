"""Many seeds at once, as `make simulate` runs them."""

import io
import subprocess
import sys
from collections import Counter
from unittest.mock import patch

import pytest
from rich.console import Console

from tests.simulation.__main__ import Tally
from tests.simulation.batches import run
from tests.simulation.shares import KINDS, Kind, kind_of


def test_each_hundred_seeds_have_the_shares_that_are_promised():
    for first in (0, 12_300):
        shares = Counter(map(kind_of, range(first, first + 100)))
        assert shares == {name: kind.share for name, kind in KINDS.items()}


@pytest.mark.timeout(60)
def test_seeds_that_hold_end_with_status_0():
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "45", "--first", "7", "--world", "rivals", "--workers", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("45 seeds in ")
    assert "none fails" in done.stdout


def test_a_seed_that_fails_is_named_with_the_way_to_see_it_again():
    with patch.dict(KINDS, rivals=Kind("test_many", "fails_at_3", 1)):
        ran, failures = run(0, 5, "rivals")
    said = io.StringIO()
    tally = Tally(5, Console(file=said, width=200))
    tally.add(ran, failures)
    assert tally.done == 5
    assert tally.failed == [3]
    assert "AssertionError: a promise is broken" in said.getvalue()
    assert "python -m tests.simulation 1 --first 3 --world rivals" in said.getvalue()


def fails_at_3(seed):
    assert seed != 3, "a promise is broken"
