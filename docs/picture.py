"""Draw docs/demo.svg: checkpoint rate and migrations over one run of the demo, the kills marked.

    python docs/picture.py [OUTPUT.svg]

Every point is what a real Prometheus scraped during that run (`watched_demo.py`); nothing is smoothed but by `rate`.
"""

from __future__ import annotations

import math
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from watched_demo import Watched, watched_demo

OUTPUT = Path(__file__).parent / "demo.svg"
RATE = "sum by (node) (rate(durable_checkpoints_total[4s]))"
MIGRATIONS = "sum by (reason) (durable_migrations_total) > 0"
COLORS = ["#4477AA", "#66CCEE", "#228833", "#CCBB44", "#EE6677", "#AA3377", "#BBBBBB"]


def draw(run: Watched, output: Path) -> None:
    """The picture of one run."""
    plt.rcParams.update(
        {"font.size": 9, "svg.hashsalt": "ray_durable", "axes.spines.top": False, "axes.spines.right": False}
    )
    figure, (rates, moves) = plt.subplots(2, 1, sharex=True, figsize=(9, 5.4), height_ratios=(3, 2))
    found = sorted(run.prometheus.series(RATE, run.began, run.ended), key=lambda each: each["metric"]["node"])
    stacked(rates, found, run)
    rates.set_ylabel("checkpoints/s, by node")
    for number, each in enumerate(run.prometheus.series(MIGRATIONS, run.began, run.ended)):
        times, values = points(each, run)
        label = each["metric"]["reason"].replace("_", " ")
        moves.step([times[0], *times], [0, *values], where="post", label=label, color=COLORS[number % len(COLORS)])
    moves.set_ylabel("coroutines migrated")
    moves.set_xlabel("seconds")
    if moves.lines:
        moves.legend(frameon=False, loc="center right")
    for at, text in marks(run):
        color = "#BB2222" if "SIGKILL" in text else "#555555"
        for axis in (rates, moves):
            axis.axvline(at, color=color, linewidth=0.8, linestyle="--")
        rates.annotate(
            text,
            (at, 1.0),
            xycoords=("data", "axes fraction"),
            rotation=30,
            rotation_mode="anchor",
            fontsize=7,
            color=color,
        )
    times = [at for each in found for at, value in zip(*points(each, run), strict=True) if value > 0]
    moves.set_xlim(0, max(times, default=run.ended - run.began) + 3)
    figure.savefig(output, bbox_inches="tight", metadata={"Date": None})


def points(series: dict[str, Any], run: Watched) -> tuple[list[float], list[float]]:
    kept = [(at - run.began, value) for at, value in series["values"] if math.isfinite(value)]
    return [at for at, _ in kept], [value for _, value in kept]


def stacked(axis: Any, series: list[dict[str, Any]], run: Watched) -> None:
    """Areas on top of each other; a node that is gone has no points, and counts as 0."""
    times = sorted({at for each in series for at in points(each, run)[0]})
    rows = []
    for each in series:
        known = dict(zip(*points(each, run), strict=True))
        rows.append([known.get(at, 0.0) for at in times])
    names = [each["metric"]["node"][:6] for each in series]
    axis.stackplot(times, rows, labels=names, colors=[COLORS[i % len(COLORS)] for i in range(len(rows))], alpha=0.85)
    axis.legend(frameon=False, ncols=7, loc="upper right", fontsize=7)


def marks(run: Watched) -> list[tuple[float, str]]:
    """What the demo did to its cluster, and when."""
    words = {" to all processes of": "", " to host process": " host"}
    found = []
    for each in run.done:
        text = each["text"]
        for long, short in words.items():
            text = text.replace(long, short)
        found.append((each["time"] - run.began, text))
    return found


def main(arguments: list[str]) -> int:
    output = Path(arguments[0]) if arguments else OUTPUT
    with tempfile.TemporaryDirectory() as directory, watched_demo(Path(directory)) as run:
        print(re.sub(r"\x1b\[[0-9;]*m", "", run.output)[-2500:])
        if run.code:
            print("The demo failed: no picture is made of it.")
            return 1
        draw(run, output)
    print(f"wrote {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
