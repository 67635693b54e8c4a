"""Heartbeats over real sockets."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from ray_durable.actors.heartbeat import Beater, Listener


def until(condition, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def listener():
    told = []
    found = Listener("127.0.0.1", on_news=lambda: told.append(1))
    found.told = told
    yield found
    found.close()


def beater(listener, **changes):
    facts = dict(period_s=0.02, turns=lambda: 7, raylet_is_alive=lambda: True, token=listener.token)
    facts.update(changes)
    return Beater("host-1", listener.address, facts.pop("token"), **facts)


def test_a_beat_is_heard_and_its_answer_renews_the_lease(listener):
    host = beater(listener)
    before = host.renewed
    until(lambda: "host-1" in listener.beats and host.renewed > before)
    assert listener.beats["host-1"].turns == 7
    host.close()


def test_a_host_whose_event_loop_has_ended_falls_silent(listener):
    loop = threading.Thread(target=lambda: None)
    loop.start()
    loop.join()
    host = beater(listener, loop_is_alive=loop.is_alive)
    lively = Beater("host-2", listener.address, listener.token, period_s=0.02, turns=lambda: 0, raylet_is_alive=bool)
    until(lambda: "host-2" in listener.beats)
    assert "host-1" not in listener.beats
    host.close()
    lively.close()


def test_a_beat_without_the_token_counts_for_nothing(listener):
    host = beater(listener, token="0" * 32)
    honest = Beater("host-2", listener.address, listener.token, period_s=0.02, turns=lambda: 0, raylet_is_alive=bool)
    until(lambda: "host-2" in listener.beats)
    assert "host-1" not in listener.beats
    host.close()
    honest.close()


def test_garbage_does_not_end_the_listener(listener):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for data in (b"", b"\xff\xfe", b"[1,2]", b'{"a":1}', b"[]", b"null"):
            stranger.sendto(data, listener.address)
    host = beater(listener)
    until(lambda: "host-1" in listener.beats)
    host.close()


def test_a_host_whose_raylet_is_gone_says_so_at_once(listener):
    alive = [True]
    host = beater(listener, raylet_is_alive=lambda: alive[0])
    until(lambda: "host-1" in listener.beats)
    assert listener.told == []
    alive[0] = False
    until(lambda: listener.told == [1])
    assert listener.beats["host-1"].raylet_gone
    host.close()


def test_a_listener_that_stood_still_blames_nobody(listener):
    host = beater(listener)
    until(lambda: "host-1" in listener.beats)
    host.close()
    heard_at = listener.beats["host-1"].at
    listener.tick -= 30  # as if the whole process had been stopped for 30 s
    until(lambda: listener.beats["host-1"].at > heard_at)


def test_a_fenced_host_is_counted_and_does_not_count_as_alive(listener):
    host = beater(listener, period_s=30.0)
    until(lambda: "host-1" in listener.beats)
    heard_at = listener.beats["host-1"].at
    host.say_fenced()
    until(lambda: listener.fenced == 1)
    assert listener.beats["host-1"].at == heard_at
    host.close()


def test_a_host_that_is_given_up_is_not_told_to_go_on(listener):
    listener.given_up.add("host-1")
    host = beater(listener)
    before, honest = (
        host.renewed,
        Beater("host-2", listener.address, listener.token, period_s=0.02, turns=lambda: 0, raylet_is_alive=bool),
    )
    until(lambda: listener.beats.get("host-1") and honest.renewed > before)
    time.sleep(0.1)
    assert host.renewed == before
    host.close()
    honest.close()


def test_an_answer_that_waited_renews_the_lease_only_from_when_it_was_asked_for(listener):
    host = beater(listener, period_s=30.0)
    until(lambda: "host-1" in listener.beats)
    time.sleep(0.2)
    host.take_answers()
    assert time.monotonic() - host.renewed > 0.2
    host.close()
