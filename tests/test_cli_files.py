"""The commands that need no cluster, on real storages: whole, damaged, signed, forbidden, absent."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ray_durable.actors.terms import beat, lead_cluster
from ray_durable.actors.transfer import Header, Transfer
from ray_durable.checkpoint import Kind, open_log, seal
from ray_durable.checkpoint.keys import keys_of
from ray_durable.checkpoint.stores import open_store
from ray_durable.cli.commands import app
from ray_durable.cli.doctor import check_address, check_limits, check_settings, judge_commits, judge_skew
from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.config import Settings

KEY = "ab" * 32


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("RAY_DURABLE_") or name == "RAY_ADDRESS":
            monkeypatch.delenv(name)


def run(*arguments: str, code: int = 0, **options) -> str:
    result = CliRunner().invoke(app, list(arguments), **options)
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def run_json(*arguments: str, code: int = 0) -> dict:
    return json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout) if code is None else json.loads(
        run(*arguments, "--json", code=code)
    )  # fmt: skip


def fill(path: Path, **settings: str) -> None:
    """Two logs of 20 coroutines: 8 have completed, one of the other 12 has been moved to the second log."""
    keys = keys_of(Settings.load({}, **settings))
    with_state = [
        (f"{i:032x}", Transfer(Header(f"{i:032x}", "shop.pipeline", f"order-{i}"), "call", b"state").encode())
        for i in range(20)
    ]
    log = open_log(str(path), "host-1", keys=keys)
    for id, state in with_state:
        log.append(id, 1, 1, Kind.ADOPTED, state)
    log.flush(10)
    for i, (id, _) in enumerate(with_state[:16]):
        log.append(id, 1, 2, Kind.COMPLETED if i % 2 else Kind.CHECKPOINT, b"x" * 100)
    log.append(with_state[19][0], 2, 3, Kind.MOVED, b"")
    log.close(10)
    second = open_log(str(path), "host-2", keys=keys)
    second.append(with_state[19][0], 2, 3, Kind.ADOPTED, with_state[19][1])
    second.close(10)
    seal(log.store, "host-1", "controller-1", {}, keys=keys)


@pytest.fixture
def storage(tmp_path):
    fill(tmp_path / "storage")
    (tmp_path / "storage" / "letter.txt").write_text("the user's own file")
    return tmp_path / "storage"


def objects(storage: Path) -> list[Path]:
    return sorted(path for path in (storage / "logs").rglob("*") if path.is_file())


def test_stats_counts_each_coroutine_once_over_all_logs(storage):
    found = run_json("store", "stats", "--storage", str(storage))
    assert found["coroutines"] == {"completed": 8, "unfinished": 12}
    logs = {log["writer"]: log for log in found["logs"]}
    assert (logs["host-1"]["fenced"], logs["host-2"]["fenced"]) == (True, False)
    assert (logs["host-1"]["coroutines"], logs["host-1"]["finished"]) == (20, 8)
    assert found["bytes"] == sum(path.stat().st_size for path in objects(storage))
    text = run("store", "stats", "--storage", str(storage))
    assert "8 completed, 12 unfinished" in text
    assert "host-2" in text


def test_stats_takes_names_of_any_type(storage):
    log = open_log(str(storage), "host-3")
    id = "f" * 32
    log.append(id, 1, 1, Kind.ADOPTED, Transfer(Header(id, "shop.pipeline", 5), "call", b"state").encode())
    log.close(10)
    assert run_json("store", "stats", "--storage", str(storage))["coroutines"]["unfinished"] == 13


def test_storage_comes_from_the_environment_too(storage, monkeypatch):
    monkeypatch.setenv("RAY_DURABLE_STORAGE", f"file://{storage}")
    assert run_json("store", "stats")["objects"] == len(objects(storage))


def test_verify_passes_what_is_whole(storage):
    found = run_json("store", "verify", "--storage", str(storage))
    assert (found["sound"], found["findings"]) == (True, [])
    assert (found["logs"], found["objects"]) == (2, len(objects(storage)))
    assert "sound, 0 findings" in run("store", "verify", "--storage", str(storage))


@pytest.mark.parametrize("at", [0, 200, -40, -33])
def test_verify_names_a_flipped_byte(storage, at):
    victim = objects(storage)[0]
    data = bytearray(victim.read_bytes())
    data[at] ^= 1
    victim.write_bytes(data)
    found = run_json("store", "verify", "--storage", str(storage), code=1)
    assert str(victim.relative_to(storage)) in {each["name"] for each in found["findings"]}
    assert "NOT SOUND" in run("store", "verify", "--storage", str(storage), code=1)


def test_verify_names_a_truncated_object(storage):
    victim = objects(storage)[1]
    victim.write_bytes(victim.read_bytes()[:10])
    findings = run_json("store", "verify", "--storage", str(storage), code=1)["findings"]
    assert "damaged" in {each["kind"] for each in findings}


def test_stats_of_a_damaged_storage_count_the_rest(storage):
    objects(storage)[-1].write_bytes(b"nonsense")
    found = run_json("store", "stats", "--storage", str(storage))
    assert found["unreadable"] == 1
    assert sum(found["coroutines"].values()) == 20


def test_history_says_that_something_is_damaged(storage):
    history = ["history", "order-3", "--storage", str(storage)]
    whole = run_json(*history)
    assert ([step["what"] for step in whole["steps"]], whole["damaged"]) == (["adopted", "completed"], [])
    assert "damaged" not in run(*history)
    victim = objects(storage)[1]
    victim.write_bytes(victim.read_bytes()[:-40])
    found = run_json(*history)
    assert len(found["steps"]) < 2
    assert str(victim.relative_to(storage)) in found["damaged"]
    assert "store verify" in run(*history)


def test_history_of_nobody_is_refused(storage):
    error = run_json("history", "nobody", "--storage", str(storage), code=1)["error"]
    assert (error["type"], error["name"]) == ("NoSuchCoroutineError", "nobody")


def test_signed_storage_needs_its_key(tmp_path, monkeypatch):
    fill(tmp_path, signing_key=KEY)
    monkeypatch.setenv("RAY_DURABLE_SIGNING_KEY", KEY)
    found = run_json("store", "stats", "--storage", str(tmp_path))
    assert list(found["keys"].values()) == [found["objects"]]
    assert run_json("store", "verify", "--storage", str(tmp_path))["sound"] is True
    monkeypatch.setenv("RAY_DURABLE_SIGNING_KEY", "cd" * 32)
    output = run("store", "verify", "--storage", str(tmp_path), "--json", code=1)
    assert "not at hand" in json.loads(output)["findings"][0]["reason"]
    assert KEY not in output


def test_compact_keeps_what_is_needed_and_says_why(storage):
    before = len(objects(storage))
    found = run_json("store", "compact", "--storage", str(storage))
    assert (found["retired"], list(found["kept"])) == ([], ["host-1"])
    assert len(objects(storage)) == before
    assert "KEPT_BECAUSE" in run("store", "compact", "--storage", str(storage))


def test_clear_leaves_a_storage_that_a_cluster_works_on(storage, monkeypatch):
    store = open_store(str(storage))
    number = lead_cluster(store, "cluster-1", str(storage), lease_s=0.1, takeover=False, clock=SYSTEM_CLOCK)
    stop = threading.Event()

    def live() -> None:
        while not stop.wait(0.05):
            beat(store, number, SYSTEM_CLOCK.unique())

    thread = threading.Thread(target=live)
    thread.start()
    try:
        error = run_json("store", "clear", "--storage", str(storage), "--yes", code=1)["error"]
        assert "A live cluster works on" in error["reason"]
    finally:
        stop.set()
        thread.join()
    monkeypatch.setenv("RAY_DURABLE_LEASE_S", "0.3")
    assert run_json("store", "clear", "--storage", str(storage), "--yes")["deleted"] is True


def test_clear_asks_and_leaves_the_users_own_files(storage):
    before = len(objects(storage))
    assert run_json("store", "clear", "--storage", str(storage), "--dry-run") == {
        "storage": f"file://{storage}", "objects": before, "bytes": sum(p.stat().st_size for p in objects(storage)),
        "deleted": False,
    }  # fmt: skip
    assert "Nothing was deleted" in run("store", "clear", "--storage", str(storage), input="n\n", code=1)
    assert len(objects(storage)) == before
    assert run_json("store", "clear", "--storage", str(storage), "--yes")["deleted"] is True
    assert objects(storage) == []
    assert (storage / "letter.txt").exists()
    assert "Nothing to delete" in run("store", "clear", "--storage", str(storage))


@pytest.mark.parametrize(
    "command", [["store", name] for name in ("stats", "verify", "compact", "clear")] + [["history", "x"]]
)
@pytest.mark.parametrize(
    "storage, says",
    [
        ("/no/such/place", "There is no storage at /no/such/place"),
        ("ftp://host/x", "no such kind of store"),
        ("file://elsewhere/x", "names a path of this machine"),
    ],
)
def test_an_unfit_storage_is_refused_in_one_sentence(command, storage, says):
    assert says in run(*command, "--storage", storage, code=1)
    error = run_json(*command, "--storage", storage, code=1)["error"]
    assert says in error["message"]
    assert not Path("/no").exists()


@pytest.mark.parametrize("name", ["stats", "verify", "compact"])
def test_a_storage_is_named_by_its_url_alone(name, storage):
    assert run_json("store", name, str(storage)).keys() == run_json("store", name, "--storage", str(storage)).keys()
    assert run_json("store", name, f"file://{storage}")["storage"] == f"file://{storage}"
    error = run_json("store", name, str(storage), "--storage", str(storage), code=1)["error"]
    assert "Two storages" in error["message"]


@pytest.mark.parametrize("command", [*(["store", name] for name in ("stats", "verify", "compact")), ["history", "x"]])
def test_a_folder_that_holds_no_storage_is_not_called_sound(command, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "syslog").write_text("somebody else's")
    assert "There is no storage in" in run(*command, "--storage", str(tmp_path), code=1)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["logs", "syslog"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    "command",
    [
        ["store", "stats"],
        ["store", "verify"],
        ["store", "compact"],
        ["store", "clear", "--yes"],
        ["history", "order-1"],
    ],
)
def test_without_permission_it_says_so(storage, command):
    run(*command, "--storage", str(storage), "--help")
    run("store", "stats", "--storage", str(storage))  # loads every module while they can be read
    run("history", "order-1", "--storage", str(storage))
    storage.chmod(0o700)
    for parent in [storage.parent, *storage.parent.parents]:
        if parent.stat().st_uid == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        error = run_json(*command, "--storage", str(storage), code=1)["error"]
    finally:
        os.seteuid(0)
    assert "ermission denied" in error["message"]
    assert len(objects(storage)) > 0


def test_doctor_finds_a_good_machine_fit(tmp_path):
    found = run_json("doctor", "--storage", str(tmp_path))
    findings = {finding["subject"]: finding for finding in found["findings"]}
    assert found["fit"] is True, [f for f in found["findings"] if f["verdict"] == "problem"]
    for subject in ("Python", "ray", "conditional create", "commit", "clock", "room", "metrics_port"):
        assert findings[subject]["verdict"] in ("ok", "warning")
    assert findings["conditional create"]["verdict"] == "ok"
    assert list((tmp_path / "probe").iterdir()) == []
    assert "conditional create" in run("doctor", "--storage", str(tmp_path))


def test_doctor_says_what_to_mend(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_DURABLE_LEASE_SS", "3")
    monkeypatch.setenv("RAY_DURABLE_METRICS_HOST", "192.0.2.1")
    found = run_json("doctor", "--storage", "/sys/not-here", code=1)
    findings = {finding["subject"]: finding for finding in found["findings"]}
    assert findings["storage"]["verdict"] == "problem"
    assert "may write to" in findings["storage"]["mend"]
    assert "RAY_DURABLE_LEASE_S?" in findings["RAY_DURABLE_LEASE_SS"]["mend"]
    assert "address of this machine" in findings["metrics_port"]["mend"]


def test_doctor_says_whether_the_cluster_answers(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert [f.verdict for f in check_address(address)] == ["ok"]
    for gone in (address, "nowhere.invalid:6379", "nonsense"):
        monkeypatch.setenv("RAY_ADDRESS", gone)
        found = run_json("doctor", "--storage", str(tmp_path), code=1)
        assert [f["subject"] for f in found["findings"] if f["verdict"] == "problem"] == ["cluster"]
    assert list(check_address(None)) == []


def test_doctor_survives_a_wrong_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_DURABLE_TURN_SIZE", "many")
    found = run_json("doctor", "--storage", str(tmp_path), code=1)
    assert [f["subject"] for f in found["findings"] if f["verdict"] == "problem"] == ["settings"]


def test_doctor_prints_no_secret(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_DURABLE_SIGNING_KEY", KEY)
    assert KEY not in run("doctor", "--storage", str(tmp_path))
    findings = list(check_settings(dict(os.environ)))
    assert "signing_key=<secret>" in findings[0].text


@pytest.mark.parametrize(
    "finding, verdict",
    [
        (judge_commits(0.001, remote=False), "ok"),
        (judge_commits(0.5, remote=True), "warning"),
        (judge_skew(-2), "ok"),
        (judge_skew(60), "warning"),
        (judge_skew(-60), "warning"),
        (next(check_limits(lambda: 1024)), "warning"),
        (next(check_limits(lambda: 65536)), "ok"),
    ],
)
def test_doctor_judges(finding, verdict):
    assert finding.verdict == verdict
    assert (finding.mend is None) == (verdict == "ok")


@pytest.mark.parametrize("arguments", [["stor"], ["store", "stats", "--storge"], ["doctor", "extra"]])
def test_a_line_that_is_not_understood_exits_with_2(arguments):
    run(*arguments, code=2)


def test_help_and_version_load_no_ray():
    code = (
        "import sys\nfrom ray_durable.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "assert 'ray' not in sys.modules"
    )
    for argument in ("--help", "--version"):
        subprocess.run([sys.executable, "-c", code, argument], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_is_there(shell):
    environ = {**os.environ, "_RAY_DURABLE_COMPLETE": f"source_{shell}"}
    code = "from ray_durable.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60)
    assert "ray-durable" in done.stdout


def test_a_reader_that_stops_early_is_no_error(storage):
    code = "from ray_durable.cli import main; main()"
    command = f"'{sys.executable}' -c '{code}' store stats --storage '{storage}' | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1), done.stderr
    assert done.stderr == ""
