"""Write the chart's Grafana dashboards and Prometheus rules from the tables in `panels.py` and `alerts.py`.

    python helm/generate/write.py            writes them
    python helm/generate/write.py --check    only says whether they are as these tables would make them

Two dashboards of the same panels: one for our own `/metrics`, one for Ray's, where every name begins with `ray_`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from alerts import ALERTS
from panels import ROWS, Panel

CHART = Path(__file__).parent.parent / "ray-durable"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
PANEL_HEIGHT = {"stat": 4, "timeseries": 8, "heatmap": 8}


def named(expr: str, prefix: str) -> str:
    return re.sub(r"\bdurable_", f"{prefix}durable_", expr)


def grafana_panel(panel: Panel, prefix: str) -> dict[str, Any]:
    targets = [
        {
            "datasource": DATASOURCE,
            "expr": named(query.expr, prefix),
            "legendFormat": "{{le}}" if panel.kind == "heatmap" else query.legend or "__auto",
            "format": "heatmap" if panel.kind == "heatmap" else "time_series",
            "range": True,
            "refId": chr(ord("A") + i),
        }
        for i, query in enumerate(panel.queries)
    ]
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.kind == "stat":
        steps: list[dict[str, Any]] = [{"color": "text", "value": None}]
        if panel.bad_above is not None:
            steps.append({"color": "red", "value": panel.bad_above})
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        options: dict[str, Any] = {
            "colorMode": "value",
            "graphMode": "area",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        }
    elif panel.kind == "heatmap":
        options = {
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
            "tooltip": {"mode": "single", "yHistogram": False},
            "yAxis": {"unit": panel.unit},
        }
    else:
        defaults["custom"] = {
            "fillOpacity": 30 if panel.stack else 10,
            "lineWidth": 1,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stack else "none"},
        }
        options = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": targets,
    }


def grafana_panels(prefix: str) -> list[dict[str, Any]]:
    """All panels, placed from left to right and top to bottom on Grafana's 24 columns, a headline over each row."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in ROWS:
        panels.append({"type": "row", "title": row.title, "collapsed": False, "gridPos": place(0, y, 24, 1)})
        x, y = 0, y + 1
        for panel in row.panels:
            height = PANEL_HEIGHT[panel.kind]
            if x + panel.width > 24:
                x, y = 0, y + height
            panels.append({**grafana_panel(panel, prefix), "gridPos": place(x, y, panel.width, height)})
            x += panel.width
        y += height
    for number, made in enumerate(panels, start=1):
        made["id"] = number
    return panels


def place(x: int, y: int, w: int, h: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": w, "h": h}


def variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard(prefix: str) -> dict[str, Any]:
    title, uid = ("ray_durable", "ray-durable") if not prefix else ("ray_durable (Ray's metrics)", "ray-durable-ray")
    coroutines, checkpoints = named("durable_coroutines", prefix), named("durable_checkpoints_total", prefix)
    return {
        "title": title,
        "uid": uid,
        "description": "Durable coroutines on Ray: checkpoints, coroutines, migrations and takeovers, store.",
        "tags": ["ray", "ray_durable"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {
            "list": [
                {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus"},
                variable("node", "Node", f"label_values({coroutines}, node)"),
                variable("function", "Function", f"label_values({checkpoints}, function)"),
            ]
        },
        "annotations": {
            "list": [
                {
                    "name": "Takeovers",
                    "datasource": DATASOURCE,
                    "enable": True,
                    "iconColor": "red",
                    "expr": named("sum(increase(durable_takeovers_total[1m])) > 0", prefix),
                    "step": "30s",
                    "titleFormat": "Takeover of a dead host's coroutines",
                }
            ]
        },
        "panels": grafana_panels(prefix),
    }


def rules() -> str:
    """Prometheus's rules as YAML: strings are written as JSON, which YAML reads alike."""
    lines = [
        "# Made by helm/generate/write.py from alerts.py; change it there.",
        "groups:",
        "  - name: ray_durable",
        "    rules:",
    ]
    for alert in ALERTS:
        lines += [
            f"      - alert: {alert.name}",
            f"        expr: {json.dumps(alert.expr)}",
            f"        for: {alert.lasts}",
            "        labels:",
            f"          severity: {alert.severity}",
            "        annotations:",
            f"          summary: {json.dumps(alert.summary)}",
            f"          description: {json.dumps(alert.text)}",
        ]
    return "\n".join(lines) + "\n"


def files() -> dict[Path, str]:
    """Every generated file and its text."""
    return {
        CHART / "dashboards" / "ray-durable.json": json.dumps(dashboard(""), indent=1) + "\n",
        CHART / "dashboards" / "ray-durable-on-ray-metrics.json": json.dumps(dashboard("ray_"), indent=1) + "\n",
        CHART / "rules" / "ray-durable.yaml": rules(),
    }


def main(arguments: list[str]) -> int:
    stale = [path for path, text in files().items() if not path.exists() or path.read_text() != text]
    if arguments == ["--check"]:
        for path in stale:
            print(f"{path} is not what the tables make; run: make dashboards")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files()[path])
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
