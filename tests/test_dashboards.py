"""The chart's dashboards and alert rules are what their tables make, speak of metrics that exist, and do fire."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ray_durable.metrics import declarations

HELM = Path(__file__).parent.parent / "helm"
HEALTHY = {
    'durable_hosts{state="alive"}': "3x60",
    'durable_coroutines{node="a", host="h", state="ready"}': "5x60",
    'durable_coroutines{node="a", host="h", state="pending"}': "0x60",
    'durable_commit_records_count{node="a", host="h"}': "0+100x60",
    'durable_oldest_ready_seconds{node="a", host="h"}': "0.1x60",
    'durable_store_requests_total{node="a", host="h", operation="create"}': "0+100x60",
    'durable_store_errors_total{node="a", host="h", operation="create"}': "0x60",
    'durable_loop_lag_seconds_bucket{node="a", host="h", le="1.0"}': "0+30x60",
    'durable_loop_lag_seconds_bucket{node="a", host="h", le="+Inf"}': "0+30x60",
    'durable_takeover_seconds_count{phase="detect"}': "0 2x60",
    'durable_takeover_seconds_bucket{phase="detect", le="5.0"}': "0 2x60",
    'durable_fenced_writers_total{role="host"}': "0x60",
    "durable_controller_rebuilds_total": "1x60",
}
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus"
)


def load(name: str):
    sys.path.insert(0, str(HELM / "generate"))
    try:
        spec = importlib.util.spec_from_file_location(f"helm_{name}", HELM / "generate" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(HELM / "generate"))


panels, alerts, write = load("panels"), load("alerts"), load("write")
EXPRESSIONS = [query.expr for row in panels.ROWS for panel in row.panels for query in panel.queries]
EXPRESSIONS += [alert.expr for alert in alerts.ALERTS]


def test_committed_files_are_what_the_tables_make():
    for path, text in write.files().items():
        assert path.read_text() == text, f"{path} is stale; run: make dashboards"


def test_panels_do_not_overlap_and_keep_within_the_grid():
    board = json.loads(write.files()[write.CHART / "dashboards" / "ray-durable.json"])
    taken = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_second_dashboard_speaks_of_rays_names():
    text = write.files()[write.CHART / "dashboards" / "ray-durable-on-ray-metrics.json"]
    expressions = [t["expr"] for panel in json.loads(text)["panels"] for t in panel.get("targets", ())]
    assert expressions
    assert not [expr for expr in expressions if re.search(r"(?<!ray_)durable_", expr)]


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_queries_speak_of_declared_metrics_and_labels(expr):
    tables = {about.name: about for about in declarations()}
    places = {"node", "host"}
    for name, labels in re.findall(r"\b(durable_\w+)(?:\{([^}]*)\})?", expr):
        about = tables.get(name) or tables[re.sub(r"_(bucket|sum|count)$", "", name)]
        known = {label.name: label.values for label in about.labels} | dict.fromkeys(places)
        if about.kind == "histogram":
            known["le"] = None
        for label, value in re.findall(r"(\w+)=\"([^\"]*)\"", labels):
            assert known[label] is None or value in known[label], (name, label, value)
        for label in re.findall(r"(\w+)=~", labels):
            assert label in known, (name, label)


def test_every_metric_is_on_the_dashboard_or_in_an_alert():
    text = " ".join(EXPRESSIONS)
    assert [about.name for about in declarations() if about.name not in text] == []


@needs_promtool
def test_promtool_accepts_the_rules():
    done = subprocess.run(
        ["promtool", "check", "rules", str(write.CHART / "rules" / "ray-durable.yaml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def rule_test(series: dict[str, str], query: str, value: float) -> dict:
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": query, "eval_time": "50m", "exp_samples": [{"labels": "{}", "value": value}]},
        ],
    }


@needs_promtool
def test_each_alert_fires_on_trouble_and_none_on_health(tmp_path):
    firing = 'count(ALERTS{{alertstate="firing"{name}}}) or vector(0)'
    tests = [rule_test(HEALTHY, firing.format(name=""), 0)]
    for alert in alerts.ALERTS:
        tests.append(rule_test(HEALTHY | alert.fires_on, firing.format(name=f', alertname="{alert.name}"'), 1))
    # promtool reads YAML, of which JSON is a part
    (tmp_path / "test.yaml").write_text(
        json.dumps({"rule_files": [str(write.CHART / "rules" / "ray-durable.yaml")], "tests": tests})
    )
    done = subprocess.run(["promtool", "test", "rules", str(tmp_path / "test.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
