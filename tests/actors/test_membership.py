"""Who is taken for dead, and by which sign."""

from __future__ import annotations

import pytest

from ray_durable.actors.membership import Heard, Limits, Verdict, judge, lease_held

NOW = 100.0
LIMITS = Limits(silence_s=1.5, lease_s=4.0)

TABLE = [
    ("heard just now", Heard("h", "n", NOW - 0.1), Verdict("h", "alive")),
    ("a busy host that still beats", Heard("h", "n", NOW - 1.4), Verdict("h", "alive")),
    ("silent: suspect, not dead", Heard("h", "n", NOW - 2), Verdict("h", "suspect", "silence")),
    ("silent for a lease", Heard("h", "n", NOW - 4), Verdict("h", "dead", "silence")),
    ("its call failed", Heard("h", "n", NOW, call_failed=True), Verdict("h", "dead", "call_failed", True)),
    ("its raylet is gone", Heard("h", "n", NOW, raylet_gone=True), Verdict("h", "dead", "host_said")),
    ("silent on a node that Ray calls gone", Heard("h", "x", NOW - 2), Verdict("h", "dead", "node_gone")),
    ("Ray's word alone is not enough", Heard("h", "x", NOW), Verdict("h", "alive")),
    ("on a draining node", Heard("h", "d", NOW), Verdict("h", "draining")),
]


@pytest.mark.parametrize(("reason", "heard", "verdict"), TABLE, ids=[row[0] for row in TABLE])
def test_a_sign_leads_to_its_verdict(reason, heard, verdict):
    assert judge([heard], NOW, LIMITS, alive_nodes=["n", "d"], draining={"d": NOW + 30}) == [verdict]


def test_before_ray_was_asked_no_node_counts_as_gone():
    (verdict,) = judge([Heard("h", "x", NOW - 2)], NOW, LIMITS, alive_nodes=None)
    assert verdict.state == "suspect"


def test_a_host_stops_resuming_before_its_log_can_be_sealed_for_silence():
    silent_since = NOW
    stops = next(t / 10 for t in range(1000, 1100) if not lease_held(t / 10, silent_since, LIMITS.lease_s))
    sealed = next(
        t / 10 for t in range(1000, 1100) if judge([Heard("h", "n", silent_since)], t / 10, LIMITS)[0].state == "dead"
    )
    assert stops - NOW == pytest.approx(LIMITS.lease_s / 2)
    assert sealed - stops >= LIMITS.lease_s / 2 - 0.1
