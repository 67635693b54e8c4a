"""Real SIGKILLs and SIGSTOPs on live nodes, with Ray's own health-check settings: nothing is lost or ends twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time

import psutil
import pytest
import ray

import ray_durable
from ray_durable.errors import CoroutineCancelledError, HostCrashedError
from tests.cluster import inside_jobs, jobs
from tests.cluster.live import LiveCluster, log_objects, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

STEPS = 60
PAUSE_S = 0.06


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    found = LiveCluster(str(tmp_path_factory.mktemp("storage")), nodes=2, controller_on_worker=True)
    yield found
    found.stop()


def start(count, journals=None):
    return [jobs.ticks.remote(STEPS, PAUSE_S, journals and str(journals / f"{i}")) for i in range(count)]


def check(refs, journals=None):
    """Every coroutine ended once with its full result, and what ran again is only what came after a durable yield."""
    assert ray.get(refs, timeout=120) == [list(range(STEPS))] * len(refs)
    for i in range(len(refs)) if journals is not None else ():
        steps = [int(line) for line in (journals / f"{i}").read_text().split()]
        assert sorted(set(steps)) == list(range(STEPS))
        assert len(steps) <= STEPS + 2, "a finished step ran again"


def test_a_killed_nodes_coroutines_all_run_again_within_three_seconds(live, tmp_path):
    refs = start(60, tmp_path)
    node, host = live.worker_with_coroutines(10)
    at = live.kill(node)
    recovered = live.event("recovered", host["host"])
    took = recovered["time"] - at
    print(f"SIGKILL of a node → all of its {host['coroutines']} coroutines running again: {took:.2f} s")
    check(refs, tmp_path)
    assert took < 3.0
    migrations = live.status()["migrations"]
    assert "host_died" not in migrations, "the node's death is told from its host's, before Ray knows of it"
    assert migrations["node_died"] > 0
    live.add_node()


def test_a_killed_host_process_is_replaced_and_loses_nothing(live, tmp_path):
    live.until_hosts(3)
    refs = start(60, tmp_path)
    node, host = live.worker_with_coroutines(10)
    at = time.time()
    os.kill(host["pid"], signal.SIGKILL)
    took = live.event("recovered", host["host"])["time"] - at
    print(f"SIGKILL of a host → all running again: {took:.2f} s")
    check(refs, tmp_path)
    until(lambda: live.hosts().get(node.node_id, host)["host"] != host["host"], 30, "a new host on the node")
    assert took < 3.0
    assert live.status()["migrations"]["host_died"] > 0


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ss") is None, reason="breaking a connection takes root and ss")
def test_a_broken_connection_to_a_host_is_not_its_death(live, tmp_path):
    live.until_hosts(3)
    refs = start(30, tmp_path)
    _, host = live.worker_with_coroutines(5)
    listening = [c.laddr.port for c in psutil.Process(host["pid"]).net_connections("tcp") if c.status == "LISTEN"]
    controller = psutil.Process(live.status()["pid"])
    held = [c.laddr.port for c in controller.net_connections("tcp") if c.raddr and c.raddr.port in listening]
    assert held, "the controller is connected to the host"
    for port in held:
        subprocess.run(
            ["ss", "--kill", "state", "connected", "sport", "=", f":{port}"], capture_output=True, check=True
        )
    left = {c.laddr.port for c in controller.net_connections("tcp")} & set(held)
    if left:
        pytest.skip("this kernel breaks no connections")
    check(refs, tmp_path)
    assert live.hosts()[host["node"]]["pid"] == host["pid"]
    assert not live.events("detected", host["host"])


def test_a_stopped_node_is_taken_over_and_commits_nothing_when_it_goes_on(live, tmp_path):
    live.until_hosts(3)
    refs = start(60, tmp_path)
    node, host = live.worker_with_coroutines(10)
    process = psutil.Process(host["pid"])
    stopped = live.processes(node)
    at = time.time()
    live.signal(stopped, signal.SIGSTOP)
    took = live.event("recovered", host["host"])["time"] - at
    print(f"SIGSTOP of a node → all running again: {took:.2f} s")
    sealed = log_objects(live.storage, host["host"])
    assert sealed, "its log is there, sealed"
    live.signal(stopped, signal.SIGCONT)
    _, alive = psutil.wait_procs([process], timeout=20)
    assert not alive, "the zombie host did not end itself"
    check(refs, tmp_path)
    assert log_objects(live.storage, host["host"]) == sealed, "the zombie has committed after the seal"
    assert took < 8.0


def test_a_drained_node_is_emptied_without_repeating_a_step(live, tmp_path):
    live.until_hosts(3)
    refs = start(30, tmp_path)
    node, host = live.worker_with_coroutines(5)
    assert live.ask("drain", node.node_id, 30.0) is None
    live.event("drained", host["host"])
    check(refs)
    for i in range(len(refs)):
        steps = [int(line) for line in (tmp_path / f"{i}").read_text().split()]
        assert steps == list(range(STEPS)), "a planned move repeats nothing"
    live.kill(node)
    live.add_node()


def test_a_finished_call_is_not_made_again_and_a_pending_one_is(live, tmp_path):
    live.until_hosts(2)
    journal = tmp_path / "calls"
    journal.touch()
    gate = tmp_path / "gate"
    ref = jobs.waits.options(name="waits").remote(str(journal), str(gate))
    handle = ray_durable.get_handle("waits")
    until(lambda: sorted(journal.read_text().split()) == ["2", "3"], 30, "both calls")
    time.sleep(1.0)  # let the short call's value reach the log
    pid = next(host["pid"] for host in live.status()["hosts"] if host["host"] == handle.status()["host"])
    os.kill(pid, signal.SIGKILL)
    until(lambda: sorted(journal.read_text().split()) == ["2", "3", "3"], 60, "the pending call again")
    gate.touch()
    assert ray.get(ref, timeout=90) == [4, 9]
    assert sorted(journal.read_text().split()) == ["2", "3", "3"]


def test_a_pending_call_of_the_caller_is_waited_for_again_by_the_next_host(live, tmp_path):
    live.until_hosts(2)
    gate, journal = tmp_path / "gate", tmp_path / "calls"
    given = {"pending": jobs.slow_square.remote(3, str(gate), str(journal))}
    ref = inside_jobs.looks_in.options(name="borrows").remote(given)
    del given
    handle = ray_durable.get_handle("borrows")
    until(lambda: handle.inspect().frames and journal.exists(), 30, "the wait for it")
    pid = next(host["pid"] for host in live.status()["hosts"] if host["host"] == handle.status()["host"])
    os.kill(pid, signal.SIGKILL)
    until(lambda: handle.status()["epoch"] > 1 and handle.inspect().frames, 60, "its next host")
    gate.touch()
    assert ray.get(ref, timeout=60) == {"pending": 9}
    assert journal.read_text().split() == ["3"], "it is no call of the coroutine's own, to be made again"


def test_one_that_crashes_its_hosts_is_set_apart_and_given_up(live, tmp_path):
    live.until_hosts(2)
    (tmp_path / "journals").mkdir()
    refs = start(10, tmp_path / "journals")
    bad = jobs.crashes.options(name="bad").remote()
    with pytest.raises(HostCrashedError, match=r"'bad' \(tests.cluster.jobs.crashes\).* 4 host processes in a row"):
        ray.get(bad, timeout=120)
    id = ray_durable.get_handle("bad").status()["id"]
    crashed = {e["host"] for e in live.ask("events_since", 0) if e["kind"] == "host_crashed" and e["coroutine"] == id}
    assert len(crashed) == 4
    assert ray.get(refs, timeout=120) == [list(range(STEPS))] * len(refs)


def test_messages_and_streams_survive_the_death_of_their_host(live):
    live.until_hosts(2)
    box = jobs.mailbox.options(name="surviving box").remote(20)
    stream = jobs.streams.options(name="surviving stream").remote(40, 0.05)
    handle = ray_durable.get_handle("surviving box")
    values = []
    for number in range(20):
        handle.send("in", number)
        values.append(ray.get(next(stream), timeout=60))
        if number in (5, 12):
            victim = ray_durable.get_handle("surviving stream" if number == 5 else "surviving box").status()["host"]
            pids = [host["pid"] for host in live.status()["hosts"] if host["host"] == victim]
            os.kill(pids[0], signal.SIGKILL)
            live.event("recovered", victim)
            live.until_hosts(2)
    values += [ray.get(ref, timeout=60) for ref in stream]
    assert values == list(range(40))
    assert ray.get(box, timeout=60) == list(range(20))


def test_a_killed_controller_loses_nothing_and_its_waiters_get_their_results(live, tmp_path):
    refs = start(30, tmp_path)
    live.worker_with_coroutines(1)
    term = live.status()["term"]
    os.kill(live.status()["pid"], signal.SIGKILL)
    late = jobs.ticks.options(name="started while it was away").remote(5, 0.01)
    assert ray.get(late, timeout=60) == list(range(5))
    assert live.status()["term"] == term + 1
    check(refs, tmp_path)


def test_who_asks_while_a_new_controller_begins_is_answered_when_it_leads(live):
    stream, sleeper = jobs.streams.remote(3, 0.0), jobs.sleeps.options(name="to be cancelled").remote(time.time() + 600)
    assert ray.get(next(stream), timeout=60) == 0
    os.kill(live.status()["pid"], signal.SIGKILL)
    rest: list[int] = []
    reader = threading.Thread(target=lambda: rest.extend(map(ray.get, stream)))
    reader.start()
    assert ray_durable.get_handle("to be cancelled").cancel()
    with pytest.raises(CoroutineCancelledError):
        ray.get(sleeper, timeout=60)
    reader.join(60)
    assert rest == [1, 2]


def test_a_killed_node_with_the_controller_on_it_loses_nothing(live, tmp_path):
    live.until_hosts(2)
    status = live.status()
    nodes = [node for node in live.workers if node.node_id == status["node"]]
    if not nodes:
        pytest.fail("the controller is not on a worker node: the test set-up puts it there")
    refs = start(30, tmp_path)
    until(lambda: sum(h["coroutines"] for h in live.status()["hosts"]) >= 30, 30, "all of them running")
    live.kill(nodes[0])
    check(refs, tmp_path)
    assert live.status()["term"] > status["term"]
