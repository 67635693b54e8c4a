"""`ray-durable top`: hosts with their checkpoint rates, and what happened last, until Ctrl-C."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from ray_durable.cli.cluster import moment, short, styled
from ray_durable.cli.joining import AddressOption, Asker, NoCluster, joined
from ray_durable.cli.output import CommandFailed, JsonOption, as_text, console, facts, fail, headline, table
from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.errors import RayDurableError
from ray_durable.inspection import bytes_text

EVENTS_SHOWN = 8
PATIENCE_S = 5.0  # then what is shown is called old, or Ray gone
RATES = ("checkpoints", "bytes")


def top(
    address: AddressOption = None,
    interval: Annotated[float, typer.Option("--interval", "-i", min=0.2, help="Seconds between looks.")] = 2.0,
    count: Annotated[int | None, typer.Option("--count", "-c", min=1, help="Stop after so many looks.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Watch hosts, checkpoint rates and events live. With --json: one object a line for each look."""
    try:
        watch(address, interval, count, as_json)
    except RayDurableError as error:
        fail(error, as_json)
        raise typer.Exit(1) from None


def watch(address: str | None, interval: float, count: int | None, as_json: bool) -> None:
    """Look again and again. A controller that restarts meanwhile is waited for.

    Raises: NoCluster when Ray is gone."""
    out = console()
    with joined(address) as asker, Live(console=out, auto_refresh=False, transient=False) as live:
        try:
            look_on(asker, live, interval, count, as_json)
        finally:
            live.stop()
            if not (as_json or out.is_terminal):
                out.line()  # to a file, Live leaves the last line open


def look_on(asker: Asker, live: Live, interval: float, count: int | None, as_json: bool) -> None:
    before: Mapping[str, Any] | None = None
    looked, number = 0, 0
    events: list[dict[str, Any]] = []
    while True:
        try:
            found = asker.ask("status", within_s=PATIENCE_S)
            news = asker.ask("events_since", number, within_s=PATIENCE_S)
        except CommandFailed as error:
            if before is None or isinstance(error, NoCluster):
                raise
            live.update(Text("The controller does not answer; it may be restarting.", "yellow"), refresh=True)
            SYSTEM_CLOCK.sleep(interval)
            continue
        found["time"] = SYSTEM_CLOCK.monotonic()
        number = max([event["number"] for event in news], default=number)
        events = (events + news)[-EVENTS_SHOWN:]
        rates = rates_of(found, before)
        if as_json:
            print(json.dumps({**found, "rates": rates, "events": news}, default=str), flush=True)
        else:
            live.update(screen(found, rates, events), refresh=True)
        before = found
        looked += 1
        if count is not None and looked >= count:
            return
        SYSTEM_CLOCK.sleep(interval)


def rates_of(now: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, dict[str, float]]:
    """Per host: checkpoints and bytes a second since the look before; 0 for hosts that were not there then."""
    known = {host["host"]: host for host in before["hosts"]} if before is not None else {}
    elapsed = now["time"] - before["time"] if before is not None else 0.0
    return {
        host["host"]: {
            name: max(0.0, (host[name] - known[host["host"]][name]) / elapsed)
            if host["host"] in known and elapsed
            else 0.0
            for name in RATES
        }
        for host in now["hosts"]
    }


def screen(
    found: Mapping[str, Any], rates: Mapping[str, Mapping[str, float]], events: Sequence[Mapping[str, Any]]
) -> Group:
    hosts = [
        (
            host["host"],
            short(host["node"]),
            styled(host["state"]),
            host["coroutines"],
            f"{rates[host['host']]['checkpoints']:,.0f}",
            f"{bytes_text(rates[host['host']]['bytes'])}/s",
        )
        for host in sorted(found["hosts"], key=lambda host: host["host"])
    ]
    total = sum(rate["checkpoints"] for rate in rates.values())
    migrations = ", ".join(f"{n:,} {reason}" for reason, n in sorted(found["migrations"].items()))
    columns = ["HOST", "NODE", "STATE", "COROUTINES", "CHECKPOINTS/S", "BYTES/S"]
    return Group(
        headline(f"ray_durable top: {moment(SYSTEM_CLOCK.now())}"),
        facts(
            {
                "Coroutines": f"{found['unfinished']:,} unfinished, {found['pending']:,} pending",
                "Checkpoints": f"{total:,.0f}/s",
                "Migrations": migrations or "none",
            }
        ),
        "",
        table(columns, hosts, right=("COROUTINES", "CHECKPOINTS/S", "BYTES/S")),
        "",
        *map(event_line, events),
    )


def event_line(event: Mapping[str, Any]) -> Text:
    told = " ".join(f"{k}={as_text(v)}" for k, v in event.items() if k not in ("number", "time", "kind"))
    return Text.assemble((moment(event["time"])[11:], "dim"), " ", (event["kind"], "bold"), " ", told)
