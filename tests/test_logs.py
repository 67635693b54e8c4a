"""Structured logs: one event is one line, and reads back as what was written."""

from __future__ import annotations

import json

import pytest

from ray_durable.config import Secret
from ray_durable.logs import open_event_log


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ray_durable_host-1.log"


def test_text_has_time_level_event_and_facts(path):
    log = open_event_log(path, host="host-1")
    log.info("adopted", coroutine="order 42", seq=17, took_s=0.1234567, reason=None)
    log.close()
    stamp, rest = path.read_text().split(" ", 1)
    assert rest == 'info adopted host=host-1 coroutine="order 42" seq=17 took_s=0.123457\n'
    assert stamp.endswith("Z")
    assert len(stamp) == len("2026-11-22T13:34:10.123Z")


def test_json_lines_read_back(path):
    log = open_event_log(path, format="json", host="host-1").bind(coroutine="a\nb")
    log.warning("late", seconds=1.5)
    log.close()
    event = json.loads(path.read_text())
    assert {**event, "time": ""} == {
        "time": "", "level": "warning", "event": "late", "host": "host-1", "coroutine": "a\nb", "seconds": 1.5,
    }  # fmt: skip


@pytest.mark.parametrize("format", ["text", "json"])
def test_an_error_with_its_traceback_is_still_one_line(path, format):
    log = open_event_log(path, format=format)
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        log.error("commit_failed", error, key=Secret("hunter2"))
    log.close()
    text = path.read_text()
    assert text.count("\n") == 1
    assert "test_logs.py" in text
    assert "two\\nlines" in text
    assert "hunter2" not in text


def test_the_level_is_kept(path):
    log = open_event_log(path, level="warning")
    log.info("quiet")
    log.warning("loud")
    log.close()
    assert "loud" in path.read_text()
    assert "quiet" not in path.read_text()


def test_two_logs_do_not_mix(path, tmp_path, capsys):
    one, two = open_event_log(path), open_event_log(tmp_path / "two.log")
    one.info("first")
    two.info("second")
    one.close()
    two.close()
    assert "second" not in path.read_text()
    assert capsys.readouterr() == ("", "")
