"""What users do with coroutines, on a live cluster that nobody disturbs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import threading
import time
from pathlib import Path

import pytest
import ray

import ray_durable
from ray_durable.actors.dropped import LOGGER
from ray_durable.errors import (
    CannotSaveError,
    CoroutineCancelledError,
    NameTakenError,
    NoSuchCoroutineError,
    SettingError,
)
from tests.cluster import jobs
from tests.cluster.live import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


def test_tasks_actors_and_durable_calls_suspend_and_return(live):
    ref = jobs.sums.remote(4)
    assert isinstance(ref, ray.ObjectRef)
    assert ray.get(ref, timeout=60) == 14 + 3003 + 4


def test_another_storage_than_the_clusters_is_refused_and_its_own_taken_in_any_form(live, tmp_path):
    with pytest.raises(SettingError, match="stores in .* already"):
        ray_durable.init(tmp_path / "other")
    assert not (tmp_path / "other").exists()
    for same in (live.storage, Path(live.storage), f"file://{live.storage}", os.path.relpath(live.storage)):
        assert ray_durable.init(same)["storage"] == live.storage
    for wrong in ("", 5):
        with pytest.raises(SettingError):
            ray_durable.init(wrong)
    assert ray.get(jobs.child.remote(3), timeout=60) == 3


def test_starting_one_does_not_wait_for_its_arguments(live, tmp_path):
    gate = str(tmp_path / "gate")
    pending = jobs.slow_square.remote(5, gate, str(tmp_path / "journal"))
    later = jobs.child.remote(pending)
    failing = jobs.child.remote(i=jobs.child.remote(jobs.fails.remote(7)))
    assert ray.wait([later], timeout=0.2)[0] == []
    Path(gate).touch()
    assert ray.get(later, timeout=60) == 25
    with pytest.raises(jobs.Refused):
        ray.get(failing, timeout=60)


def test_gather_over_durable_calls_and_refs(live):
    assert ray.get(jobs.gathered.remote(3), timeout=60) == ([0, 1, 2, 9], 9)


def test_a_result_can_be_waited_for_awaited_and_passed_on(live):
    ref = jobs.child.remote(3)
    ready, _ = ray.wait([ref], timeout=60)
    assert ready == [ref]
    assert ray.get(jobs.square.remote(ref), timeout=60) == 9

    async def awaited():
        return await jobs.child.remote(4)

    assert asyncio.run(awaited()) == 4


def test_a_ref_as_argument_arrives_as_its_value(live):
    assert ray.get(jobs.helper.remote(jobs.square.remote(5)), timeout=60) == 25


def test_called_plainly_it_just_runs(live):
    assert jobs.ticks(3, 0.0) == [0, 1, 2]
    assert list(jobs.streams(3)) == [0, 1, 2]
    assert asyncio.run(jobs.gathered(2)) == ([0, 1, 4], 4)


def test_a_coroutine_starts_others_and_waits_for_them(live):
    assert ray.get(jobs.parent.remote(10), timeout=60) == 45


def test_a_stream_gives_each_value_once_and_then_the_result(live):
    stream = jobs.streams.remote(5)
    assert [ray.get(ref) for ref in stream] == [0, 1, 2, 3, 4]
    assert ray.get(stream.completed(), timeout=30) == "the end"


def test_a_stream_is_found_by_its_name_and_goes_on_with_the_value_asked_for_last(live):
    begun = jobs.streams.options(name="found", _generator_backpressure_num_objects=2)
    stream = begun.remote(6)
    assert [ray.get(next(stream)) for _ in range(3)] == [0, 1, 2]
    again = begun.options(get_if_exists=True).remote(99)
    assert (again.id, [ray.get(ref) for ref in again]) == (stream.id, [2, 3, 4, 5])
    assert ray.get(again.completed(), timeout=30) == "the end"
    late = ray_durable.get_handle("found").stream()
    oldest = late.index
    assert oldest >= 5
    assert [ray.get(ref) for ref in late] == list(range(oldest, 6))


def test_one_that_is_no_generator_has_no_stream(live):
    ray.get(jobs.helper.options(name="a plain one").remote(1), timeout=30)
    with pytest.raises(TypeError, match="streams nothing"):
        ray_durable.get_handle("a plain one").stream()


def test_values_can_be_sent_into_a_generator(live):
    stream = jobs.echo.options(_generator_backpressure_num_objects=1).remote()
    assert ray.get(next(stream)) == 0
    assert [ray.get(stream.send(value)) for value in (5, 7)] == [5, 12]


def test_messages_arrive_once_each_in_order(live):
    ref = jobs.mailbox.options(name="box").remote(3)
    handle = ray_durable.get_handle("box")
    for value in ("a", {"b": 1}, None):
        handle.send("in", value)
    assert ray.get(ref, timeout=30) == ["a", {"b": 1}, None]
    with pytest.raises(NoSuchCoroutineError, match="takes no more messages"):
        handle.send("in", "late")


def test_a_message_that_cannot_be_saved_says_so_and_sends_nothing(live):
    ref = jobs.mailbox.options(name="picky box").remote(1)
    handle = ray_durable.get_handle("picky box")
    with pytest.raises(
        CannotSaveError, match=r"The message to tests\.cluster\.jobs\.mailbox\(\) cannot be saved: its \[1\]"
    ):
        handle.send("in", [1, threading.Lock()])
    handle.send("in", "fine")
    assert ray.get(ref, timeout=30) == ["fine"]


def test_threads_that_share_a_handle_lose_no_message_and_keep_their_own_order(live):
    ref = jobs.mailbox.options(name="shared box").remote(60)
    handle = ray_durable.get_handle("shared box")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda thread: [handle.send("in", (thread, n)) for n in range(15)], range(4)))
    received = ray.get(ref, timeout=30)
    for thread in range(4):
        assert [n for sender, n in received if sender == thread] == list(range(15))


def test_a_users_exception_keeps_its_type_and_the_users_lines(live):
    with pytest.raises(jobs.Refused) as caught:
        ray.get(jobs.fails.remote(7), timeout=30)
    assert isinstance(caught.value, ray.exceptions.RayTaskError)
    assert caught.value.amount == 7
    text = str(caught.value)
    assert f'File "{jobs.__file__}"' in text
    assert "raise Refused(amount)" in text


@pytest.mark.parametrize("kind", ["task", "coroutine"])
def test_an_exception_of_an_inner_call_is_caught_by_its_type(live, kind):
    with pytest.raises(jobs.Refused) as caught:
        ray.get(jobs.passes_on.remote(kind, 7), timeout=30)
    assert caught.value.amount == 7
    text = str(caught.value)
    assert "raise Refused(amount)" in text
    assert "in passes_on" in text


def test_a_local_that_cannot_be_saved_is_named_with_its_place(live):
    with pytest.raises(CannotSaveError) as caught:
        ray.get(jobs.holds_a_socket.options(name="socket").remote(), timeout=30)
    text = str(caught.value)
    assert "client" in text
    assert "socket" in text
    assert "holds_a_socket" in text
    assert "jobs.py" in text
    assert ray_durable.get_handle("socket").status()["state"] == "failed"


def test_a_name_is_taken_until_its_holder_is_done(live):
    ref = jobs.ticks.options(name="taken").remote(20, 0.05)
    with pytest.raises(NameTakenError):
        ray.get(jobs.ticks.options(name="taken").remote(1, 0.0), timeout=30)
    again = jobs.ticks.options(name="taken", get_if_exists=True).remote(1, 0.0)
    assert ray.get(again, timeout=30) == ray.get(ref, timeout=30) == list(range(20))
    assert ray.get(jobs.ticks.options(name="taken").remote(1, 0.0), timeout=30) == [0]


def test_cancelling_runs_finally_and_raises_where_the_result_is_awaited(live, tmp_path):
    journal = tmp_path / "journal"
    ref = jobs.cleans_up.options(name="long").remote(str(journal))
    handle = ray_durable.get_handle("long")
    until(lambda: handle.status()["state"] == "running")
    assert handle.cancel()
    with pytest.raises(CoroutineCancelledError):
        ray.get(ref, timeout=30)
    assert journal.read_text() == "cleaned up\n"
    assert not handle.cancel()


def test_of_outcomes_that_nobody_reads_only_failures_are_shown_with_their_traceback(live, monkeypatch):
    told = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    monkeypatch.setattr(logging.getLogger(LOGGER), "handlers", [handler])
    refs = [jobs.sleeps.options(name="unread").remote(time.time() + 600), jobs.fails.options(name="fails").remote(7)]
    assert ray_durable.get_handle("unread").cancel()
    for name in ("unread", "fails"):  # asked of the handle: what was waited for is not unread
        until(lambda handle=ray_durable.get_handle(name): handle.status()["state"] in ("cancelled", "failed"))
    holder = jobs.ticks.options(name="held").remote(20, 0.05)
    ray_durable.get_handle("held")
    refs.insert(0, jobs.ticks.options(name="held").remote(1, 0.0))
    ray.get(holder, timeout=30)
    while refs:
        del refs[0]
    until(lambda: any("refused 7" in text for text in told), what="the failure's traceback")
    assert "raise Refused(amount)" in next(text for text in told if "refused 7" in text)
    (taken,) = (text for text in told if "'held'" in text)
    assert taken.startswith("a coroutine named 'held' is not finished")
    assert not [text for text in told if "cancelled" in text]


def test_retry_exceptions_runs_again_from_the_last_checkpoint(live, tmp_path):
    assert ray.get(jobs.flaky.remote(str(tmp_path / "journal")), timeout=30) == "done"


def test_one_that_asks_for_a_cpu_gets_a_host_of_its_own(live):
    shared = {host["pid"] for host in live.hosts().values()}
    _, pid = ray.get(jobs.where.options(num_cpus=1).remote(), timeout=60)
    assert pid not in shared
    until(lambda: not any(host["dedicated_to"] for host in live.status()["hosts"]), 30, "the end of its host")


def test_migrate_moves_it_to_another_node(live):
    ref = jobs.ticks.options(name="mover").remote(60, 0.05)
    handle = ray_durable.get_handle("mover")
    until(lambda: handle.status()["state"] == "running")
    before = handle.status()["node"]
    assert handle.migrate()
    until(lambda: handle.status()["state"] == "running" and handle.status()["node"] != before)
    assert ray.get(ref, timeout=60) == list(range(60))


def test_inspect_shows_the_frames(live):
    ref = jobs.ticks.options(name="looked-at").remote(40, 0.05)
    handle = ray_durable.get_handle("looked-at")
    until(lambda: handle.status()["state"] == "running")
    text = str(handle.inspect())
    assert "ticks" in text
    assert "time.sleep(pause)" in text
    assert ray.get(ref, timeout=60) == list(range(40))


def test_arguments_that_do_not_fit_are_refused_at_the_call(live):
    with pytest.raises(TypeError, match="missing a required argument"):
        jobs.helper.remote()


def test_an_unknown_name_says_so(live):
    with pytest.raises(NoSuchCoroutineError, match="nobody"):
        ray_durable.get_handle("nobody")


def test_five_thousand_sleepers_wake_together_and_finish(live):
    before = os.popen(f"ps -o rss= -p {live.status()['pid']}").read()
    wake = time.time() + 14
    refs = [jobs.sleeps.remote(wake) for _ in range(5000)]
    assert time.time() < wake, "starting took too long to have them all asleep at once"
    woke = ray.get(refs, timeout=120)
    after = os.popen(f"ps -o rss= -p {live.status()['pid']}").read()
    print(f"woke within {max(woke) - wake:.2f} s; controller {int(before) // 1024} → {int(after) // 1024} MB")
    assert min(woke) >= wake - 0.01
    assert max(woke) - wake < 2.0
