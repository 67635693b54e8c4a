"""A real Prometheus scrapes a live cluster while the demo kills its nodes: each query of the dashboard has data."""

from __future__ import annotations

import importlib.util
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ray_durable.metrics import declarations

ROOT = Path(__file__).parent.parent.parent


def load(path: Path):
    sys.path.insert(0, str(path.parent))
    try:
        spec = importlib.util.spec_from_file_location(f"loaded_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(path.parent))


watching = load(ROOT / "docs" / "watched_demo.py")
panels = load(ROOT / "helm" / "generate" / "panels.py")
alerts = load(ROOT / "helm" / "generate" / "alerts.py")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(420),
    pytest.mark.skipif(not watching.installed(), reason="prometheus is missing: apt-get install prometheus"),
]
QUERIES = [(f"{p.title}: {q.legend}", q.expr) for row in panels.ROWS for p in row.panels for q in p.queries]
QUERIES += [(alert.name, alert.measure) for alert in alerts.ALERTS]


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    with watching.watched_demo(tmp_path_factory.mktemp("prometheus")) as run:
        yield run


def test_the_demo_succeeds_while_it_is_watched(watched):
    assert watched.code == 0, watched.output


@pytest.mark.parametrize("name, query", QUERIES, ids=[re.sub(r"\W+", "_", name) for name, _ in QUERIES])
def test_each_query_has_data(watched, name, query):
    asked = watching.for_test(query, watched.ended - watched.began)
    series = watched.prometheus.series(asked, watched.began, watched.ended)
    values = [value for each in series for _, value in each["values"] if math.isfinite(value)]
    assert values, f"{name}: no data for {asked}"


def total(watched, query: str) -> float:
    found = watched.prometheus.series(query, watched.began, watched.ended)
    return max(value for each in found for _, value in each["values"])


def test_kills_and_drains_show_as_migrations_and_takeovers(watched):
    assert total(watched, "sum(durable_takeovers_total)") >= 3
    for reason in ("(node|host)_died", "node_draining"):
        assert total(watched, f'sum(durable_migrations_total{{reason=~"{reason}"}})') > 0, reason
    assert total(watched, 'sum(durable_takeover_seconds_count{phase="total"})') >= 3


def test_rules_are_loaded_and_sound(watched):
    groups = watched.prometheus.api("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert [rule["name"] for rule in rules] == [alert.name for alert in alerts.ALERTS]
    assert {rule["name"]: rule["lastError"] for rule in rules if rule.get("lastError")} == {}


def test_live_metrics_are_those_documented(watched):
    documented = {about.name: about.kind for about in declarations()}
    names = watched.prometheus.api("label/__name__/values")
    seen = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names if name.startswith("durable_")}
    assert seen <= set(documented)
    for text in watched.scrapes:
        assert dict(re.findall(r"^# TYPE (durable_\w+) (\w+)$", text, flags=re.MULTILINE)) == documented


def test_promtool_finds_nothing_to_complain_of_in_live_scrapes(watched):
    assert len(watched.scrapes) > 1
    for text in watched.scrapes:
        durable = "".join(line for line in text.splitlines(keepends=True) if re.match(r"(# \w+ )?durable_", line))
        done = subprocess.run(["promtool", "check", "metrics"], input=durable, text=True, capture_output=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
