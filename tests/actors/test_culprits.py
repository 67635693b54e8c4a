"""Who is blamed for a host's death: the coroutine whose step it was, as far as a dead process can tell."""

from __future__ import annotations

import concurrent.futures
import signal
import subprocess
import sys
import threading

from ray_durable.actors.culprits import IDLE, NO_CRASHES, Culprit, Mark, after_crash, found_in, note
from ray_durable.actors.ledger import Entry, Ledger
from ray_durable.actors.transfer import Header

DYING = """
import os, signal, sys
from pathlib import Path
from ray_durable.actors.culprits import IDLE, Mark, note
folder, host, id, busy = sys.argv[1:]
mark = Mark(Path(folder), host)
note(mark.place, 0, 1, b"a" * 32)
note(mark.place, 0, 7, id.encode())
if busy == "no":
    mark.place[:] = IDLE
os.kill(os.getpid(), signal.SIGKILL)
"""


def die(folder, host, id="poison", busy="yes"):
    ended = subprocess.run([sys.executable, "-c", DYING, str(folder), host, id, busy], timeout=60)
    assert ended.returncode == -signal.SIGKILL


def test_what_a_killed_process_ran_is_told_once(tmp_path):
    die(tmp_path, "host-1")
    assert found_in(tmp_path) == [Culprit("host-1", "poison", 7)]
    assert found_in(tmp_path) == []


def test_one_that_ran_nothing_blames_nobody(tmp_path):
    die(tmp_path, "host-1", busy="no")
    assert found_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_living_hosts_file_is_left_alone(tmp_path):
    mark = Mark(tmp_path, "host-1")
    note(mark.place, 0, 1, b"x")
    assert found_in(tmp_path) == []
    assert mark.path.exists()
    mark.clear()
    assert mark.place[:] == IDLE


def test_a_folder_without_hosts_has_no_culprits(tmp_path):
    assert found_in(tmp_path / "none") == []


def test_crashes_count_in_a_row_at_one_step_and_each_host_once():
    first = after_crash(NO_CRASHES, Culprit("a", "c", 5))
    assert first.times == 1
    assert after_crash(first, Culprit("a", "c", 5)) == first
    second = after_crash(first, Culprit("b", "c", 5))
    assert second.times == 2
    assert after_crash(second, Culprit("a", "c", 5)) == second, "told by its log and by its file"
    assert after_crash(second, Culprit("c", "c", 6)).times == 1, "a checkpoint came in between"


def test_one_death_sets_nobody_apart_and_two_at_one_step_do():
    ledger, header = Ledger(), Header(id="c", function="f", kind="plain", created=0.0)
    assert not ledger.is_apart(header), "before it is admitted"
    entry = Entry(header)
    ledger.add(entry)
    once = after_crash(NO_CRASHES, Culprit("a", "c", 5))
    for crashes, apart in (
        (once, False),
        (after_crash(once, Culprit("b", "c", 5)), True),
        (after_crash(once, Culprit("b", "c", 6)), False),
    ):
        entry.crashes = crashes
        assert ledger.is_apart(header) == apart


def test_hosts_that_start_while_others_look_around_keep_their_files(tmp_path):
    over = threading.Event()

    def look_around():
        while not over.is_set():
            assert found_in(tmp_path) == []

    with concurrent.futures.ThreadPoolExecutor() as pool:
        looking = [pool.submit(look_around) for _ in range(2)]
        try:
            marks = [Mark(tmp_path, f"host-{i}") for i in range(300)]
        finally:
            over.set()
        for each in looking:
            each.result()
    assert all(mark.path.exists() for mark in marks)
