"""A real Prometheus watches the demo: both are started here, Prometheus finds the hosts by the controller's `/targets`.

For `docs/picture.py`, which draws what it saw, and for the test that runs every query of the dashboard against it.
Debian has Prometheus as the package `prometheus`.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SCRAPE_S = 1
LIMIT_S = 300.0
METRICS_LINE = re.compile(r"http://(\S+?)/metrics")
CONFIG = """\
global: {{scrape_interval: {scrape}s, scrape_timeout: {scrape}s, evaluation_interval: {scrape}s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: ray_durable
    http_sd_configs: [{{url: "http://{controller}/targets", refresh_interval: {scrape}s}}]
"""


class Prometheus:
    """A Prometheus server on loopback that scrapes what a controller lists, from `start` to `stop`."""

    def __init__(self, controller: str, directory: Path, rules: Path) -> None:
        self.directory = directory
        self.port = free_port()
        config = directory / "prometheus.yml"
        config.write_text(CONFIG.format(scrape=SCRAPE_S, controller=controller, rules=rules))
        self.command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=error",
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.directory / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=2):
                    return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    log_text = (self.directory / "prometheus.log").read_text()
                    raise RuntimeError(f"Prometheus did not start:\n{log_text}") from None
                time.sleep(0.1)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)

    def api(self, path: str, **parameters: Any) -> Any:
        """The `data` of an answer of Prometheus's HTTP API. Raises: ValueError with its reason for a bad query."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{parameters}: {error.read().decode()}") from None

    def series(self, query: str, start: float, end: float, step: float = SCRAPE_S) -> list[dict[str, Any]]:
        """A query over a stretch of time: per series its `metric` (labels) and `values` (time, value)."""
        found = self.api("query_range", query=query, start=start, end=end, step=step)["result"]
        for each in found:
            each["values"] = [(float(at), float(value)) for at, value in each["values"]]
        return list(found)


@dataclass(frozen=True)
class Watched:
    """A run that is over: its output, when it began and ended, and the Prometheus that saw it, still up.

    `scrapes` are texts of `/metrics`, of the controller and of hosts, taken early in the run; `done` is what the demo
    did to its cluster, each with `time` and `text`."""

    prometheus: Prometheus
    began: float
    ended: float
    output: str
    code: int
    scrapes: list[str]
    done: list[dict[str, Any]]


@contextlib.contextmanager
def watched_demo(directory: Path, arguments: Sequence[str] = ()) -> Iterator[Watched]:
    """Run `examples/kill_nodes.py` with `arguments` under Prometheus; the block has the finished run, interrupted if it
    took longer than `LIMIT_S`."""
    rules = ROOT / "helm" / "ray-durable" / "rules" / "ray-durable.yaml"
    record = directory / "done.json"
    command = [sys.executable, "-u", str(ROOT / "examples" / "kill_nodes.py"), "--record", str(record), *arguments]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert demo.stdout is not None
    too_long = threading.Timer(LIMIT_S, demo.send_signal, [signal.SIGINT])
    too_long.start()
    output: list[str] = []
    prometheus = None
    scrapes: list[str] = []
    began = time.time()
    try:
        for line in demo.stdout:
            output.append(line)
            found = METRICS_LINE.search(line)
            if found and prometheus is None:
                prometheus = Prometheus(found[1], directory, rules)
                prometheus.start()
                began = time.time()
                scrapes = scrape_all(found[1])
        code = demo.wait()
        too_long.cancel()
        if prometheus is None:
            raise RuntimeError("the demo printed no address of metrics:\n" + "".join(output))
        done = json.loads(record.read_text()) if record.exists() else []
        yield Watched(prometheus, began, time.time(), "".join(output), code, scrapes, done)
    finally:
        too_long.cancel()
        if demo.poll() is None:
            demo.send_signal(signal.SIGINT)  # it stops its cluster, as after Ctrl-C
            demo.wait(60)
        if prometheus is not None:
            prometheus.stop()


def scrape_all(controller: str) -> list[str]:
    """`/metrics` of everything that the controller lists, as soon as it lists a host."""
    deadline = time.monotonic() + 30
    while True:
        with urllib.request.urlopen(f"http://{controller}/targets", timeout=5) as answer:
            targets = [address for group in json.load(answer) for address in group["targets"]]
        if len(targets) > 1 or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    texts = []
    for address in targets:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            texts.append(answer.read().decode())
    return texts


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def installed() -> bool:
    """Whether Prometheus and promtool are on this machine."""
    return shutil.which("prometheus") is not None and shutil.which("promtool") is not None


def for_test(query: str, range_s: float) -> str:
    """A dashboard's query with Grafana's variables replaced by what they would be for this run."""
    known = {"$node": ".*", "$function": ".*", "$__rate_interval": "10s", "$__range": f"{int(range_s) + 1}s"}
    for variable, value in known.items():
        query = query.replace(variable, value)
    return query
