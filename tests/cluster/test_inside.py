"""Coroutines that start, ask and read one another on the same host: none of it blocks the host's loop."""

from __future__ import annotations

import pytest
import ray

import ray_durable
from ray_durable.errors import CoroutineCancelledError
from tests.cluster import inside_jobs, jobs

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


def test_the_result_of_one_is_the_argument_of_another(live):
    assert ray.get(inside_jobs.chained.remote(4), timeout=60) == 4


def test_a_failed_argument_fails_the_call(live):
    with pytest.raises(jobs.Refused):
        ray.get(jobs.helper.remote(jobs.fails.remote(1)), timeout=60)


def test_one_sends_to_another_and_waits_for_its_result(live):
    box = jobs.mailbox.options(name="inner box").remote(3)
    assert ray.get(inside_jobs.talks.remote("inner box"), timeout=60)[1] == [0, 1, 2]
    assert ray.get(box, timeout=30) == [0, 1, 2]


def test_one_reads_the_stream_of_another(live):
    assert ray.get(inside_jobs.reads.remote(4), timeout=60) == [0, 1, 2, 3]


def test_one_reads_a_stream_that_it_finds_by_name(live):
    begun = jobs.streams.options(name="found inside").remote(3)
    assert ray.get(next(begun), timeout=60) == 0
    assert ray.get(inside_jobs.joins.remote("found inside"), timeout=60) == ([0, 1, 2], [])


def test_a_ready_ref_is_ready_without_waiting(live):
    assert ray.get(inside_jobs.polls.remote(3), timeout=60) == (9, 9, 1, 0)


def test_calls_that_no_frame_refers_to_are_forgotten(live):
    assert ray.get(inside_jobs.forgets.remote(20), timeout=60) <= 2


def test_ordinary_code_that_would_block_the_host_is_refused(live):
    ray.get(jobs.helper.options(name="asked").remote(1), timeout=60)
    with pytest.raises(RuntimeError, match="would block the host"):
        ray.get(inside_jobs.blocks.remote("asked"), timeout=60)


def test_an_unplaceable_one_is_pending_says_why_and_can_be_cancelled(live):
    ref = jobs.helper.options(name="never", num_gpus=64).remote(1)
    handle = ray_durable.get_handle("never")
    assert handle.status()["state"] == "pending"
    assert "no node has num_gpus=64" in handle.status()["trouble"]
    view = handle.inspect()
    assert view.state == "pending"
    assert "no node has num_gpus=64" in str(view)
    assert live.status()["pending"] == 1
    assert handle.cancel()
    with pytest.raises(CoroutineCancelledError):
        ray.get(ref, timeout=30)
