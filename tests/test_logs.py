"""Structured logs: one event is one line, and reads back as what was written."""

from __future__ import annotations

import json

import pytest

from ray_durable.config import Secret, Settings
from ray_durable.logs import open_event_log


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ray_durable_host-1.log"


@pytest.fixture
def start(tmp_path):
    return lambda role="host-1", **settings: open_event_log(role, Settings.load({}, **settings), tmp_path)


def test_text_has_time_level_event_and_facts(path, start):
    log = start()
    log.info("adopted", coroutine="order 42", seq=17, took_s=0.1234567, reason=None)
    log.close()
    stamp, rest = path.read_text().split(" ", 1)
    assert rest == 'info adopted role=host-1 coroutine="order 42" seq=17 took_s=0.123457\n'
    assert stamp.endswith("Z")
    assert len(stamp) == len("2026-11-22T13:34:10.123Z")


def test_json_lines_read_back(path, start):
    log = start(log_format="json").bind(coroutine="a\nb")
    log.warning("late", seconds=1.5)
    log.close()
    event = json.loads(path.read_text())
    assert {**event, "time": ""} == {
        "time": "", "level": "warning", "event": "late", "role": "host-1", "coroutine": "a\nb", "seconds": 1.5,
    }  # fmt: skip


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_error_with_its_traceback_is_still_one_line(path, start, log_format):
    log = start(log_format=log_format)
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


def test_the_level_is_kept(path, start):
    log = start(log_level="warning")
    log.info("quiet")
    log.warning("loud")
    log.close()
    assert "loud" in path.read_text()
    assert "quiet" not in path.read_text()


def test_two_logs_do_not_mix(path, start, capsys):
    one, two = start(), start("controller")
    one.info("first")
    two.info("second")
    one.close()
    two.close()
    assert "second" not in path.read_text()
    assert "second" in (path.parent / "ray_durable_controller.log").read_text()
    assert capsys.readouterr() == ("", "")


def test_without_a_directory_it_goes_to_stderr(capsys):
    log = open_event_log("host-1", Settings.load({}))
    log.info("here")
    log.close()
    assert "info here role=host-1" in capsys.readouterr().err
