"""Ray's own metrics show ours, with nothing configured: what a cluster's existing Prometheus and Grafana read.

Needs Ray with its agent, `ray[default]`, which the package itself does not; `make test-ray-default` sets that up.
"""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from ray_durable.metrics import declarations

needed = ("aiohttp", "opentelemetry", "opencensus")
missing = [name for name in needed if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(180),
    pytest.mark.skipif(bool(missing), reason=f"Ray's agent is missing ({', '.join(missing)}): make test-ray-default"),
]
PROGRAM = """
import sys, time, ray, ray_durable

@ray_durable.remote
def ticker(n):
    for _ in range(n):
        time.sleep(0.01)
    return n

ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, _metrics_export_port=int(sys.argv[1]))
ray_durable.init(sys.argv[2], ray_metrics_interval_s=0.5)
assert ray.get(ticker.remote(100)) == 100
print("done", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def scrape(tmp_path_factory):
    """Reads Ray's metrics of a node whose host has made 100 checkpoints."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    directory = tmp_path_factory.mktemp("ray")
    program = directory / "program.py"
    program.write_text(PROGRAM)
    environ = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    command = [sys.executable, str(program), str(port), str(directory / "storage")]
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)
    try:
        assert running.stdout.readline() == "done\n"

        def read() -> str:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                    return answer.read().decode()
            except OSError:
                return ""

        yield read
    finally:
        running.stdin.close()
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            running.terminate()


def until_found(scrape, pattern: str) -> re.Match:
    deadline = time.monotonic() + 60
    while (found := re.search(pattern, text := scrape(), re.MULTILINE)) is None:
        assert time.monotonic() < deadline, text[-2000:]
        time.sleep(0.5)
    return found


def test_checkpoints_arrive_as_a_counter_with_node_host_and_function(scrape):
    line = until_found(scrape, r"^ray_durable_checkpoints_total{.*function=\"__main__.ticker\".*} (?:[1-9]\d\d.*)$")[0]
    assert float(line.split()[-1]) >= 100
    assert re.search(r'host="host-[^"]+"', line)
    assert re.search(r'node="[0-9a-f]{12}"', line)


def test_a_histogram_arrives_so_that_quantiles_can_be_read(scrape):
    until_found(scrape, r'^ray_durable_checkpoint_latency_seconds_bucket{.*le="\+Inf".*} [1-9]')
    buckets = re.findall(
        r'^ray_durable_checkpoint_latency_seconds_bucket{.*host="host-.*le="([^"]+)".*} (\S+)$', scrape(), re.MULTILINE
    )
    ordered = sorted((float(bound.replace("+Inf", "inf")), float(count)) for bound, count in buckets)
    counts = [count for _, count in ordered]
    assert counts == sorted(counts)
    assert len(counts) >= 16


def test_every_gauge_and_histogram_is_there(scrape):
    until_found(scrape, r"^ray_durable_oldest_ready_seconds{")
    text = scrape()
    for about in declarations():
        if about.kind != "counter":  # Ray shows a counter from its first increment on
            assert re.search(rf"^ray_{about.name}(_bucket)?{{", text, re.MULTILINE), about.name
