"""The dashboard's rows and panels as one table; `write.py` makes Grafana's file of it.

Queries speak of `durable_*`. `$node` and `$function` are the dashboard's variables; `$__rate_interval` is Grafana's.
An alert is a measure, which has a value at all times, and the bound that it must not pass: so that a test can run the
measure against a healthy cluster and see that it measures something. `fires_on` are series on which it must fire.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Query:
    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    title: str
    text: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: Literal["timeseries", "stat", "heatmap"] = "timeseries"
    width: int = 8
    stack: bool = False
    bad_above: float | None = None


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Alert:
    name: str
    measure: str
    bound: str
    lasts: str
    severity: Literal["critical", "warning", "info"]
    summary: str
    text: str
    fires_on: dict[str, str] = field(default_factory=dict)

    @property
    def expr(self) -> str:
        return f"{self.measure} {self.bound}"


def quantile(
    q: float, metric: str, by: str = "", where: str = 'node=~"$node"', window: str = "$__rate_interval"
) -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{{{where}}}[{window}])))"


def rate(metric: str, by: str, where: str = 'node=~"$node"') -> str:
    return f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))"


NODE = 'node=~"$node"'
FUNCTION = 'node=~"$node", function=~"$function"'

ROWS = (
    Row(
        "At a glance",
        (
            Panel(
                "Unfinished coroutines",
                "In all states, on all hosts, and those that wait for a host.",
                (Query("sum(durable_coroutines)"),),
                kind="stat",
                width=4,
            ),
            Panel(
                "Checkpoints/s",
                "Yields made durable per second.",
                (Query("sum(rate(durable_checkpoints_total[$__rate_interval]))"),),
                unit="ops",
                kind="stat",
                width=4,
            ),
            Panel(
                "Checkpoint latency, p99",
                "Yield to durable.",
                (Query(quantile(0.99, "durable_checkpoint_latency_seconds", where="")),),
                unit="s",
                kind="stat",
                width=4,
                bad_above=2.5,
            ),
            Panel(
                "Hosts alive",
                "As the controller sees them.",
                (Query('sum(durable_hosts{state="alive"})'),),
                kind="stat",
                width=4,
            ),
            Panel(
                "Migrations in the range",
                "Coroutines adopted by another host, for any reason.",
                (Query("sum(increase(durable_migrations_total[$__range]))"),),
                kind="stat",
                width=4,
            ),
            Panel(
                "Store errors in the range",
                "Requests that failed. A create that met an object is none.",
                (Query("sum(increase(durable_store_errors_total[$__range]))"),),
                kind="stat",
                width=4,
                bad_above=1,
            ),
        ),
    ),
    Row(
        "Checkpoints",
        (
            Panel(
                "Checkpoint rate by function",
                "Yields made durable per second.",
                (Query(rate("durable_checkpoints_total", "function", FUNCTION), "{{function}}"),),
                unit="ops",
            ),
            Panel(
                "Checkpoint rate by node",
                "A node that is gone stops; the others take its share.",
                (Query(rate("durable_checkpoints_total", "node", FUNCTION), "{{node}}"),),
                unit="ops",
            ),
            Panel(
                "Checkpoint latency",
                "How long yields wait until they are durable.",
                (
                    Query(
                        f"sum by (le) (increase(durable_checkpoint_latency_seconds_bucket{{{NODE}}}[$__rate_interval]))"
                    ),
                ),
                unit="s",
                kind="heatmap",
            ),
            Panel(
                "Checkpoint latency, quantiles",
                "Yield to durable.",
                tuple(
                    Query(quantile(q, "durable_checkpoint_latency_seconds"), name)
                    for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
                ),
                unit="s",
            ),
            Panel(
                "Bytes",
                "State before compression, segments as written, chunks written and chunk bytes that reuse saved.",
                (
                    Query(f"sum(rate(durable_checkpoint_bytes_total{{{FUNCTION}}}[$__rate_interval]))", "state"),
                    Query(f"sum(rate(durable_segment_bytes_total{{{NODE}}}[$__rate_interval]))", "segments"),
                    Query(rate("durable_chunk_bytes_total", "outcome"), "chunks {{outcome}}"),
                ),
                unit="Bps",
            ),
            Panel(
                "Records per commit",
                "Group commit: the busier the host, the larger its groups.",
                (
                    Query(quantile(0.5, "durable_commit_records"), "p50"),
                    Query(quantile(0.95, "durable_commit_records"), "p95"),
                ),
            ),
            Panel(
                "Serialization",
                "Share of one CPU spent on capturing and pickling frames.",
                (Query(rate("durable_serialization_seconds_total", "node"), "{{node}}"),),
                unit="percentunit",
            ),
            Panel(
                "Yields that could not be saved",
                "A local could not be pickled; the checkpoint before stands, and the caller gets the error.",
                (Query(f"sum(increase(durable_cannot_save_total{{{FUNCTION}}}[$__rate_interval])) or vector(0)"),),
            ),
            Panel(
                "Chunks",
                "Large buffers: written, or found stored already.",
                (Query(rate("durable_chunks_total", "outcome"), "{{outcome}}"),),
                unit="ops",
            ),
        ),
    ),
    Row(
        "Coroutines",
        (
            Panel(
                "Coroutines by state",
                "Unfinished ones.",
                (Query(f"sum by (state) (durable_coroutines{{{NODE}}})", "{{state}}"),),
                stack=True,
            ),
            Panel(
                "Coroutines by node",
                "Unfinished ones.",
                (Query(f"sum by (node) (durable_coroutines{{{NODE}}})", "{{node}}"),),
                stack=True,
            ),
            Panel(
                "Started, finished and recovered",
                "Per second.",
                (
                    Query("sum(rate(durable_started_total[$__rate_interval]))", "started"),
                    Query("sum by (outcome) (rate(durable_finished_total[$__rate_interval]))", "{{outcome}}"),
                    Query("sum by (cause) (rate(durable_recoveries_total[$__rate_interval]))", "recovered: {{cause}}"),
                ),
                unit="ops",
            ),
            Panel(
                "Ready-queue delay",
                "How long a ready coroutine waits for its turn, and the age of the oldest that waits now.",
                (
                    Query(quantile(0.5, "durable_ready_delay_seconds"), "p50"),
                    Query(quantile(0.99, "durable_ready_delay_seconds"), "p99"),
                    Query(f"max(durable_oldest_ready_seconds{{{NODE}}})", "oldest now"),
                ),
                unit="s",
            ),
            Panel(
                "Event-loop lag, p99",
                "How late a short timer fires. Code that runs long between two yields shows here.",
                (Query(quantile(0.99, "durable_loop_lag_seconds", by="node"), "{{node}}"),),
                unit="s",
            ),
            Panel(
                "Messages, streamed values, retries",
                "Per second.",
                (
                    Query("sum(rate(durable_messages_total[$__rate_interval]))", "messages"),
                    Query("sum(rate(durable_stream_items_total[$__rate_interval]))", "streamed values"),
                    Query("sum by (kind) (rate(durable_retries_total[$__rate_interval]))", "retries: {{kind}}"),
                ),
                unit="ops",
            ),
        ),
    ),
    Row(
        "Migrations and takeovers",
        (
            Panel(
                "Migrations by reason",
                "Coroutines adopted by another host than before, per scrape window.",
                (Query("sum by (reason) (increase(durable_migrations_total[$__rate_interval]))", "{{reason}}"),),
                stack=True,
            ),
            Panel(
                "Takeovers: where the time goes",
                "Time of each phase (p95), from the last sign of life to the last coroutine adopted.",
                (Query(quantile(0.95, "durable_takeover_seconds", "phase", "", "$__range"), "{{phase}}"),),
                unit="s",
            ),
            Panel(
                "Detections and takeovers",
                "What showed first that a host was dead, and takeovers of such hosts' logs.",
                (
                    Query("sum by (kind) (increase(durable_detections_total[$__rate_interval]))", "{{kind}}"),
                    Query("sum(increase(durable_takeovers_total[$__rate_interval]))", "takeovers"),
                ),
            ),
            Panel(
                "Hosts by state",
                "As the controller sees them.",
                (Query("sum by (state) (durable_hosts)", "{{state}}"),),
                stack=True,
            ),
            Panel(
                "Fenced writers",
                "Processes that met a seal on their own log, and stopped: zombies.",
                (Query("sum by (role) (increase(durable_fenced_writers_total[$__rate_interval]))", "{{role}}"),),
            ),
            Panel(
                "Controller",
                "Admissions per second, and how often a controller rebuilt its map.",
                (
                    Query("sum(rate(durable_admissions_total[$__rate_interval])) or vector(0)", "admissions/s"),
                    Query("sum(increase(durable_controller_rebuilds_total[$__rate_interval]))", "rebuilds"),
                ),
            ),
        ),
    ),
    Row(
        "Store",
        (
            Panel(
                "Requests by operation",
                "Per second.",
                (Query(rate("durable_store_requests_total", "operation"), "{{operation}}"),),
                unit="ops",
            ),
            Panel(
                "Request time, p99",
                "By operation.",
                (Query(quantile(0.99, "durable_store_request_seconds", by="operation"), "{{operation}}"),),
                unit="s",
            ),
            Panel(
                "Errors by operation",
                "Per second.",
                (Query(rate("durable_store_errors_total", "operation"), "{{operation}}"),),
                unit="ops",
            ),
            Panel(
                "Commit time",
                "How long the store takes to make a segment durable.",
                (
                    Query(quantile(0.5, "durable_commit_seconds"), "p50"),
                    Query(quantile(0.99, "durable_commit_seconds"), "p99"),
                ),
                unit="s",
            ),
            Panel(
                "Logs in the store",
                "Bytes and segments of the logs that are being written.",
                (
                    Query(f"sum(durable_log_bytes{{{NODE}}})", "bytes"),
                    Query(f"sum(durable_log_segments{{{NODE}}})", "segments"),
                ),
            ),
            Panel(
                "Compaction",
                "Segments rewritten and deleted, runs, refused ones, and coroutines archived; per second.",
                (
                    Query(rate("durable_compacted_segments_total", "outcome"), "{{outcome}}"),
                    Query("sum(rate(durable_compactions_total[$__rate_interval]))", "runs"),
                    Query("sum(rate(durable_compactions_refused_total[$__rate_interval]))", "refused"),
                    Query("sum(rate(durable_archived_total[$__rate_interval]))", "archived"),
                ),
                unit="ops",
            ),
        ),
    ),
)
