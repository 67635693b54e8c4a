"""The demo's live display, and its closing table."""

from __future__ import annotations

import json
import time
from collections import deque
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table

import ray_durable
from ray_durable.connection import connected

console = Console()
EVENTS_SHOWN = 12
EVERY_S = 1.0
TOLD = {"detected", "sealed", "recovered", "host_ready", "draining", "drained", "rebalancing", "leading"}


class Progress:
    """What runs where and what happened, asked of the controller every second."""

    def __init__(self, record: Path | None = None) -> None:
        self.record = record
        self.done: list[dict[str, Any]] = []
        self.began = time.time()
        self.live = Live(console=console, refresh_per_second=4, transient=False)
        self.events: list[dict[str, Any]] = []
        self.lines: deque[str] = deque(maxlen=EVENTS_SHOWN)
        self.kills: dict[str, float] = {}
        self.seen = 0
        self.asked = 0.0
        self.last: dict[str, tuple[float, int]] = {}
        self.status: dict[str, Any] = {"hosts": [], "migrations": {}}
        self.checkpoints: dict[str, int] = {}
        self.bytes: dict[str, int] = {}
        self.migrations: dict[str, int] = {}

    def __enter__(self) -> Progress:
        self.live.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.live.stop()
        if self.record is not None:
            self.record.write_text(json.dumps(self.done, indent=1))

    def note(self, text: str, at: float | None = None) -> None:
        """Show a line; without a time it is about what the demo itself does, which is recorded."""
        if at is None:
            self.done.append({"time": time.time(), "text": text})
        self.lines.append(f"{(at or time.time()) - self.began:7.2f} s  {text}")

    def killed(self, host: str, text: str) -> None:
        self.kills[host] = time.time()
        self.note(text)

    def begin_again(self) -> None:
        """A new cluster numbers its events from the start."""
        self.seen = 0

    def update(self, finished: int, total: int) -> None:
        """Ask the controller, at most once a second and at the end, and show what it says."""
        if time.time() - self.asked < EVERY_S and finished < total:
            return
        self.asked = time.time()
        client = connected("the demo")
        self.status = client.ask("status")
        for event in client.ask("events_since", self.seen):
            self.seen = event["number"]
            self.events.append(event)
            if event["kind"] in TOLD:
                facts = " ".join(
                    f"{k}={v}" for k, v in event.items() if k in ("host", "sign", "coroutines") and v != ""
                )
                self.note(f"{event['kind']:<11} {facts}", event["time"])
        for host in self.status["hosts"]:
            self.checkpoints[host["host"]] = max(host["checkpoints"], self.checkpoints.get(host["host"], 0))
            self.bytes[host["host"]] = max(host["bytes"], self.bytes.get(host["host"], 0))
        self.migrations = self.status["migrations"]
        self.live.update(Group(self.bar(finished, total), self.hosts(), self.happened()))

    def bar(self, finished: int, total: int) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_row("coroutines", ProgressBar(total=total, completed=finished, width=60), f"{finished}/{total}")
        return table

    def hosts(self) -> Table:
        table = Table("node", "host", "state", "coroutines", "checkpoints", "per second")
        now = time.time()
        for host in self.status["hosts"]:
            before = self.last.get(host["host"], (now - EVERY_S, host["checkpoints"]))
            rate = (host["checkpoints"] - before[1]) / max(now - before[0], 1e-6)
            self.last[host["host"]] = (now, host["checkpoints"])
            table.add_row(
                host["node"][:8],
                host["host"],
                host["state"],
                str(host["coroutines"]),
                str(host["checkpoints"]),
                f"{max(rate, 0):.0f}",
            )
        return table

    def happened(self) -> Panel:
        return Panel("\n".join(self.lines), title="events", width=110)

    def recovered(self) -> dict[str, float]:
        """Seconds from each kill until the last of its coroutines ran again, by host."""
        times = {event["host"]: event["time"] for event in self.events if event["kind"] == "recovered"}
        return {host: times[host] - at for host, at in self.kills.items() if host in times}

    def wait_until_recovered(self, kills: int, timeout_s: float = 20.0) -> None:
        """Until every kill has been recovered from, or it takes too long."""
        deadline = time.time() + timeout_s
        while len(self.recovered()) < kills and time.time() < deadline:
            time.sleep(0.2)
            self.asked = 0.0
            self.update(1, 1)


def closing_table(
    progress: Progress,
    *,
    coroutines: int,
    files: int,
    again: int,
    storage: Path,
    seconds: float,
    lost: int,
    index: dict[str, Any],
) -> None:
    """The figures of the run."""
    ended = [row for row in ray_durable.list() if row["state"] == "completed"]
    checkpoints = sum(progress.checkpoints.values())
    written = sum(file.stat().st_size for file in storage.rglob("*") if file.is_file())
    running = time.time() - progress.began
    table = Table(title="Kill nodes", show_header=False, title_justify="left")
    rows = {
        "coroutines": f"{coroutines}, finished once each: {len(ended)}",
        "files": f"{files}, words {sum(index['words'].values()):,}, definitions {index['definitions']:,}",
        "yields": f"{2 * files} (two for each file)",
        "checkpoints": f"{checkpoints:,}, {checkpoints / running:,.0f}/s",
        "bytes": f"{sum(progress.bytes.values()):,} of state, {written:,} in the store",
        "migrations": ", ".join(f"{reason} {count}" for reason, count in sorted(progress.migrations.items())) or "none",
        "processed again": f"{again} files, as they came after the last durable yield",
        "time": f"{running:.1f} s with the cluster up, {seconds:.1f} s in all",
    }
    for host, delay in progress.recovered().items():
        rows[f"SIGKILL → all running again ({host})"] = f"{delay:.2f} s"
    for name, value in rows.items():
        table.add_row(name, value)
    table.add_row("[bold]lost[/]", f"[bold]lost: {lost}[/]")
    console.print(table)
