"""Every command of the CLI on a live cluster, as text and as JSON, and with what its users get wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from typer.testing import CliRunner

from ray_durable.cli.commands import app

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
PROGRAM = Path(__file__).parent / "cli_program.py"


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """What the program printed: address, storage, metrics."""
    storage = tmp_path_factory.mktemp("storage")
    environ = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    program = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(storage)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ,
    )  # fmt: skip
    try:
        line = program.stdout.readline()
        assert line, "the program ended before it was ready"
        yield json.loads(line)
    finally:
        program.stdin.close()
        program.wait(60)


@pytest.fixture(autouse=True)
def environment(live, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", live["address"])
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_DURABLE_SIGNING_KEY", "ab" * 32)
    yield
    assert not ray.is_initialized(), "a command has not left the cluster"


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def run_json(*arguments: object, code: int = 0):
    return json.loads(run(*arguments, "--json", code=code))


def until(condition, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
    return found


def test_status_shows_hosts_storage_and_states(live):
    until(lambda: run_json("status")["states"].get("running") == 7)  # the second host takes its share at first
    found = run_json("status")
    assert found["storage"] == live["storage"]
    assert len([host for host in found["hosts"] if host["state"] == "alive"]) == 2
    text = run("status")
    for part in (live["storage"], f"http://{live['metrics']}/metrics", "COROUTINES", found["hosts"][0]["host"]):
        assert part in text


def test_list_filters_and_limits():
    rows = run_json("list")
    names = {row["name"] for row in rows}
    assert {"ticker-0", "order-1", "outer", "failing"} <= names
    assert [row["name"] for row in run_json("list", "--state", "failed")] == ["failing"]
    assert {row["name"] for row in run_json("list", "-f", "ticker")} == {f"ticker-{n}" for n in range(4)}
    assert len(run_json("list", "--limit", 2)) == 2
    assert "'pending', 'running'" in run("list", "--state", "busy", code=2)
    node = next(row["node"] for row in rows if row["node"])
    assert {row["node"] for row in run_json("list", "--node", node[:10])} == {node}
    text = run("list", "--limit", 3)
    assert "the newest 3 shown" in text
    assert "STATE" in text


def test_show_by_name_and_by_id():
    row = run_json("show", "ticker-1")
    assert row["name"] == "ticker-1"
    assert row["function"].endswith("ticker")
    assert run_json("show", row["id"])["name"] == "ticker-1"
    assert row["id"] in run("show", "ticker-1")


def test_inspect_shows_the_users_stack_and_locals():
    view = run_json("inspect", "outer")
    frames = view["branches"][0]["frames"]
    assert [frame["function"] for frame in frames] == ["outer", "inner"]
    lines = PROGRAM.read_text().splitlines()
    for frame in frames:
        assert frame["file"] == str(PROGRAM)
        assert lines[frame["line"] - 1].strip() == frame["source"]
    values = {local["name"]: local["value"] for frame in frames for local in frame["locals"]}
    assert values["label"] == "'outside'"
    assert values["n"] == "5"
    assert "object" in values["secret"]
    text = run("inspect", "order-1")
    assert "waits for a message under 'approval'" in text
    assert "decision = await ray_durable.receive" in text
    assert "order = {'id': 'order-1'" in text


def test_inspect_of_a_failed_one_shows_its_error():
    assert "out of stock" in run_json("inspect", "failing")["error"]
    assert "ValueError: out of stock" in run("inspect", "failing")


def test_history_from_admission_to_now(live):
    steps = run_json("history", "ticker-0")["steps"]
    words = [step["what"] for step in steps]
    assert words[0] == "admitted"
    assert "adopted" in words
    assert words[-1] == "checkpoint"
    assert len(run_json("history", "ticker-0", "--all")["steps"]) > len(steps)
    assert "failed" in [step["what"] for step in run_json("history", "failing", "--storage", live["storage"])["steps"]]
    created = run_json("show", "ticker-0")["created"]
    assert all(created - 1 <= step["time"] <= time.time() + 1 for step in run_json("history", "ticker-0")["steps"])
    assert "checkpoints" in run("history", "ticker-0")


def test_send_wakes_the_receiver():
    sent = run_json("send", "order-1", "approval", '"yes"')
    assert (sent["topic"], sent["value"]) == ("approval", "yes")
    until(lambda: run_json("show", "order-1")["state"] == "completed")
    assert "Sent to order-2" in run("send", "order-2", "other", "plain words")


def test_migrate_moves_to_another_host():
    before = run_json("show", "ticker-2")
    moved = run_json("migrate", "ticker-2")
    assert moved["migrated"] is True
    assert moved["host"] != before["host"]
    assert moved["epoch"] > before["epoch"]
    assert "moved to" in run("migrate", "ticker-2", "--node", before["node"][:12])
    assert run_json("show", "ticker-2")["node"] == before["node"]


def test_cancel_ends_it_and_says_so_again():
    assert run_json("cancel", "ticker-3")["cancelled"] is True
    until(lambda: run_json("show", "ticker-3")["state"] == "cancelled")
    assert "has cancelled already" in run("cancel", "ticker-3")


def test_top_shows_rates_and_events():
    lines = [json.loads(line) for line in run("top", "--count", 2, "--interval", 1, "--json").splitlines()]
    assert len(lines) == 2
    assert sum(rate["checkpoints"] for rate in lines[1]["rates"].values()) > 1
    assert any(event["kind"] == "leading" for event in lines[0]["events"])
    shown = run("top", "--count", 1)
    assert "CHECKPOINTS/S" in shown
    assert shown.endswith("\n")


def test_store_and_doctor_work_beside_a_live_cluster(live):
    assert run_json("store", "verify", "--storage", live["storage"])["sound"] is True
    assert run_json("store", "stats", "--storage", live["storage"])["coroutines"]["failed"] == 1
    assert run_json("doctor", "--storage", live["storage"])["findings"]
    assert "A live cluster works on" in run("store", "clear", "--storage", live["storage"], "--yes", code=1)


def test_everything_in_the_logs_is_signed_when_a_key_is_set(live, monkeypatch):
    found = run_json("store", "stats", "--storage", live["storage"])
    for log in found["logs"]:
        assert sum(n for key, n in log["keys"].items() if key) >= log["segments"]
    monkeypatch.setenv("RAY_DURABLE_SIGNING_KEY", "cd" * 32)
    assert run_json("store", "verify", "--storage", live["storage"], code=1)["sound"] is False


def test_logs_among_rays_say_whose_event_it_was(live):
    logs = Path(live["logs"])
    id = run_json("show", "failing")["id"]
    lines = [line for path in logs.glob("ray_durable_host-*.log") for line in path.read_text().splitlines()]
    failed = next(line for line in lines if f"coroutine={id}" in line)
    assert " info failed " in failed
    assert 'error="ValueError: out of stock"' in failed
    assert "leading" in (logs / "ray_durable_controller.log").read_text()


@pytest.mark.parametrize("command", ["show", "inspect", "history", "cancel", "migrate"])
def test_an_unknown_name_is_refused_by_name(command):
    assert "'nobody': no coroutine has this name or id" in run(command, "nobody", code=1)
    error = run_json(command, "nobody", code=1)["error"]
    assert (error["type"], error["name"]) == ("NoSuchCoroutineError", "nobody")


def test_sending_to_one_that_has_ended_is_refused():
    assert "takes no more messages" in run("send", "failing", "topic", code=1)


def test_a_node_that_is_not_there_is_refused():
    assert "no live node" in run("migrate", "ticker-1", "--node", "ffffffff", code=1).lower()
    assert "No live node" in run("drain", "--node", "ffffffff", code=1)
    run("drain", code=2)
    run("drain", "--node", "a", "--this-node", code=2)


@pytest.mark.parametrize("command", ["status", "list", "top"])
def test_without_a_cluster_it_says_how_to_get_one(command, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    arguments = [command, "--count", "1"] if command == "top" else [command]
    assert "no Ray cluster to be reached at 127.0.0.1:1" in run(*arguments, code=1)
    assert run_json(*arguments, code=1)["error"]["advice"]


def test_a_cluster_without_a_controller_is_told_from_none(monkeypatch):
    monkeypatch.setenv("RAY_DURABLE_NAMESPACE", "elsewhere")
    assert "has no ray_durable controller" in run("status", code=1)
    assert "elsewhere" in run_json("status", code=1)["error"]["advice"]


def test_the_console_script_is_quiet(live):
    """As a user runs it: nothing of Ray's own on either stream."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ray-durable"), "status", "--json"],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["hosts"]
    assert done.stderr == ""


def test_drain_empties_a_node_and_waits_for_it():
    """Last: it takes a node away."""
    hosts = {host["node"]: host for host in run_json("status")["hosts"]}
    head = run_json("status")["node"]
    node = next(id for id in hosts if id != head)
    found = run_json("drain", "--node", node, "--timeout", 60, "--wait")
    assert found == {"node": node, "timeout_s": 60.0, "left": 0, "drained": True}
    until(lambda: {row["node"] for row in run_json("list", "--state", "running")} == {head})
