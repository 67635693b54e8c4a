"""The alerts, as one table; `write.py` makes Prometheus's rules of them."""

from __future__ import annotations

from panels import Alert, quantile

BUSY = {
    'durable_coroutines{node="a", host="h", state="ready"}': "5x60",
    'durable_commit_records_count{node="a", host="h"}': "100x60",
}
LATE = {  # 30 values a minute, all beyond the bucket of 1 s
    '{metric}_bucket{{node="a", host="h", le="1.0"{more}}}': "0x60",
    '{metric}_bucket{{node="a", host="h", le="10.0"{more}}}': "0+30x60",
    '{metric}_bucket{{node="a", host="h", le="+Inf"{more}}}': "0+30x60",
}


def late(metric: str, more: str = "") -> dict[str, str]:
    return {series.format(metric=metric, more=more): values for series, values in LATE.items()}


def beyond(phase: str, seconds: int) -> str:
    """How many takeovers of the last 15 minutes had a phase longer than `seconds`, which is a bucket's bound."""
    counted = f'sum(increase(durable_takeover_seconds_count{{phase="{phase}"}}[15m]))'
    within = f'sum(increase(durable_takeover_seconds_bucket{{phase="{phase}", le=~"{seconds}([.]0)?"}}[15m]))'
    return f"({counted} - {within})"


ALERTS = (
    Alert(
        "DurableControllerGone",
        '(sum(durable_hosts{state="alive"}) or vector(0))',
        "< 1",
        "2m",
        "critical",
        "No controller of ray_durable answers, or it knows no host that lives.",
        "Coroutines that run go on; none is taken over, placed or started meanwhile. See `ray-durable doctor`.",
        {'durable_hosts{state="alive"}': "0x60"},
    ),
    Alert(
        "DurableCoroutinesStuck",
        "max by (node, host) (durable_oldest_ready_seconds)",
        "> 60",
        "1m",
        "critical",
        "A coroutine on {{ $labels.node }} has been ready for {{ $value | humanizeDuration }} and gets no turn.",
        "Most often the user's code of another one runs long, or blocks, between two yields.",
        {'durable_oldest_ready_seconds{node="a", host="h"}': "100x60"},
    ),
    Alert(
        "DurableNoCheckpoints",
        'sum by (node, host) (durable_coroutines{state="ready"})'
        " * on (node, host) (sum by (node, host) (rate(durable_commit_records_count[5m])) == bool 0)",
        "> 0",
        "5m",
        "critical",
        "{{ $value }} coroutines on {{ $labels.node }} are ready, and nothing has become durable for 5 minutes.",
        "The store takes no segments, or the host hangs: see its store errors and its event-loop lag.",
        BUSY,
    ),
    Alert(
        "DurableStoreErrors",
        "(sum by (node) (rate(durable_store_errors_total[5m]))"
        " / clamp_min(sum by (node) (rate(durable_store_requests_total[5m])), 0.001))",
        "> 0.01",
        "5m",
        "critical",
        "{{ $value | humanizePercentage }} of the store requests from {{ $labels.node }} fail.",
        "Checkpoints are delayed; nothing is lost while hosts live. See `ray-durable doctor` on that node.",
        {
            'durable_store_errors_total{node="a", host="h", operation="create"}': "0+5x60",
            'durable_store_requests_total{node="a", host="h", operation="create"}': "0+100x60",
        },
    ),
    Alert(
        "DurableStoreSlow",
        quantile(0.99, "durable_commit_seconds", by="node", where="", window="5m"),
        "> 1",
        "10m",
        "warning",
        "A commit from {{ $labels.node }} takes {{ $value | humanizeDuration }} (p99).",
        "Results and streamed values wait for their commit: everything is that much later.",
        late("durable_commit_seconds"),
    ),
    Alert(
        "DurableCompactionRefused",
        "sum by (node, host) (increase(durable_compactions_refused_total[5m]))",
        "> 0",
        "5m",
        "warning",
        "The store refuses to have the log of host {{ $labels.host }} compacted.",
        "Quick writers are slowed down until it does. The event `compaction_postponed` in the host's log says why.",
        {'durable_compactions_refused_total{node="a", host="h"}': "0+1x60"},
    ),
    Alert(
        "DurableCheckpointsSlow",
        quantile(0.99, "durable_checkpoint_latency_seconds", by="node", where="", window="5m"),
        "> 2.5",
        "10m",
        "warning",
        "Yields on {{ $labels.node }} become durable after {{ $value | humanizeDuration }} (p99).",
        "Look at commit time (the store), records per commit (load) and event-loop lag (code between yields).",
        late("durable_checkpoint_latency_seconds"),
    ),
    Alert(
        "DurableLoopLag",
        quantile(0.99, "durable_loop_lag_seconds", by="node, host", where="", window="5m"),
        "> 1",
        "10m",
        "warning",
        "The event loop of host {{ $labels.host }} is late by {{ $value | humanizeDuration }} (p99).",
        "Code runs long between two yields there; give it yield points, or a dedicated host (`num_cpus=1`).",
        late("durable_loop_lag_seconds"),
    ),
    Alert(
        "DurableSlowDetection",
        beyond("detect", 5),
        "> 0",
        "0m",
        "warning",
        "A dead host was found after more than 5 s.",
        "Its coroutines stood still for that long. See `durable_detections_total` for the sign that showed it.",
        {
            'durable_takeover_seconds_count{phase="detect"}': "0x45 1x15",
            'durable_takeover_seconds_bucket{phase="detect", le="5.0"}': "0x60",
        },
    ),
    Alert(
        "DurableSlowTakeover",
        beyond("total", 15),
        "> 0",
        "0m",
        "warning",
        "A takeover took more than 15 s.",
        "The dashboard's panel of takeover phases shows which part; recovery grows with the state of the host.",
        {
            'durable_takeover_seconds_count{phase="total"}': "0x45 1x15",
            'durable_takeover_seconds_bucket{phase="total", le="15.0"}': "0x60",
        },
    ),
    Alert(
        "DurableFencedWriter",
        "sum by (role) (increase(durable_fenced_writers_total[10m]))",
        "> 0",
        "0m",
        "info",
        "A {{ $labels.role }} that had been taken over tried to write, met its seal, and stopped.",
        "Nothing is lost, and nothing of its was released. Often: hosts that hang, or pauses longer than `lease_s`.",
        {'durable_fenced_writers_total{role="host"}': "0x45 1x15"},
    ),
    Alert(
        "DurableControllerRestarts",
        "sum(increase(durable_controller_rebuilds_total[30m]))",
        "> 3",
        "0m",
        "warning",
        "The controller has been rebuilt {{ $value | humanize }} times in 30 minutes.",
        "It is killed again and again: see its log with `ray logs`, and the memory of its node.",
        {"durable_controller_rebuilds_total": "0+1x60"},
    ),
    Alert(
        "DurablePending",
        'sum(durable_coroutines{state="pending"})',
        "> 0",
        "15m",
        "warning",
        "{{ $value }} coroutines have had no host for 15 minutes.",
        "No node has what they ask for (`ray-durable list --state pending` says what), or the cluster is full.",
        {'durable_coroutines{node="a", host="h", state="pending"}': "3x60"},
    ),
    Alert(
        "DurableCannotSave",
        "(sum by (function) (increase(durable_cannot_save_total[10m])) or vector(0))",
        "> 0",
        "0m",
        "warning",
        "A local of {{ $labels.function }} could not be saved.",
        "The caller has got an error that names the variable and the line; the checkpoint before stands.",
        {'durable_cannot_save_total{function="f"}': "0x45 1x15"},
    ),
)
