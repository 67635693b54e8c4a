"""The commands that ask a running cluster: status, list, show, inspect, send, cancel, migrate, drain."""

from __future__ import annotations

import enum
import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.text import Text

from ray_durable.cli.joining import AddressOption, Asker, joined
from ray_durable.cli.output import Answer, CommandFailed, command, facts, headline, table
from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.config import Settings
from ray_durable.inspection import CoroutineView, bytes_text

DRAIN_POLL_S = 0.2
STYLES = {
    "running": "green",
    "completed": "dim",
    "failed": "red",
    "pending": "yellow",
    "moving": "yellow",
    "alive": "green",
    "suspect": "yellow",
    "draining": "yellow",
    "dead": "red",
}

NameArgument = Annotated[str, typer.Argument(help="Name or id of a coroutine.")]
NamespaceOption = Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace of the name.")]


class State(enum.StrEnum):
    """What a coroutine may be, as `list` shows it."""

    PENDING = "pending"
    RUNNING = "running"
    MOVING = "moving"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


def short(node: str | None) -> str:
    """The part of a node's id that people compare; the metrics have it as `node`."""
    return (node or "-")[:12]


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def styled(word: str) -> Text:
    return Text(word, STYLES.get(word, ""))


@command
def status(address: AddressOption = None) -> Answer:
    """Show hosts, coroutines and migrations."""
    with joined(address) as asker:
        found = asker.ask("status")
        states = Counter(row["state"] for row in asker.ask("rows"))
    found["states"] = dict(sorted(states.items()))
    return Answer(found, status_lines(found))


def status_lines(found: Mapping[str, Any]) -> list[Any]:
    """The answer to `status`, in the layout of `ray status`."""
    metrics = found["metrics"]
    hosts = [
        (
            host["host"],
            short(host["node"]),
            styled(host["state"]),
            host["coroutines"],
            host["checkpoints"],
            bytes_text(host["bytes"]),
            host["pid"],
            host["metrics"] or "-",
        )
        for host in found["hosts"]
    ]
    columns = ["HOST", "NODE", "STATE", "COROUTINES", "CHECKPOINTS", "BYTES", "PID", "METRICS"]
    return [
        headline(f"ray_durable status: {moment(SYSTEM_CLOCK.now())}"),
        facts(
            {
                "Storage": found["storage"],
                "Controller": f"term {found['term']}, node {short(found['node'])}, pid {found['pid']}",
                "Metrics": f"http://{metrics}/metrics (others: http://{metrics}/targets)" if metrics else "off",
                "Coroutines": counted(found["states"]),
                "Migrations": counted(found["migrations"]),
                "Draining": ", ".join(map(short, found["draining"])) or None,
            }
        ),
        "",
        table(columns, hosts, right=("COROUTINES", "CHECKPOINTS", "BYTES", "PID")),
    ]


def counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {word}" for word, n in sorted(counts.items())) or "none"


@command
def list_coroutines(
    address: AddressOption = None,
    state: Annotated[State | None, typer.Option("--state", "-s", help="Only those in this state.")] = None,
    function: Annotated[
        str | None, typer.Option("--function", "-f", help="Only those whose function has this in it.")
    ] = None,
    node: Annotated[str | None, typer.Option("--node", help="Only those on the node whose id begins so.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, the newest.")] = 100,
) -> Answer:
    """List coroutines, the newest first."""
    with joined(address) as asker:
        rows = asker.ask("rows")
    chosen = [
        row
        for row in reversed(rows)
        if (state is None or row["state"] == state)
        and (function is None or function in row["function"])
        and (node is None or (row["node"] or "").startswith(node))
    ]
    shown = chosen[:limit]
    columns = ["ID", "NAME", "STATE", "FUNCTION", "NODE", "HOST", "EPOCH", "CREATED"]
    lines = [
        (
            row["id"],
            row["name"],
            styled(row["state"]),
            row["function"],
            short(row["node"]),
            row["host"],
            row["epoch"],
            moment(row["created"]),
        )
        for row in shown
    ]
    more = f"Total: {len(chosen):,}" + (f", the newest {limit:,} shown" if len(chosen) > limit else "")
    return Answer(
        shown, [headline(f"List: {moment(SYSTEM_CLOCK.now())}"), more, "", table(columns, lines, right=["EPOCH"])]
    )


@command
def show(name: NameArgument, address: AddressOption = None, namespace: NamespaceOption = None) -> Answer:
    """Show one coroutine: its function, state, place and age."""
    with joined(address) as asker:
        row = asker.ask("lookup", name, namespace)
    lines = {**row, "state": styled(row["state"]), "created": moment(row["created"])}
    return Answer(row, [facts(lines)])


@command
def inspect_coroutine(name: NameArgument, address: AddressOption = None, namespace: NamespaceOption = None) -> Answer:
    """Show where a coroutine stands: its stack with source lines and locals."""
    with joined(address) as asker:
        id = asker.ask("lookup", name, namespace)["id"]
        view: CoroutineView = asker.ask("inspect", id)
    return Answer(view.to_plain(), [Text(str(view))])


@command
def send(
    name: NameArgument,
    topic: Annotated[str, typer.Argument(help="Topic that the coroutine receives under.")],
    value: Annotated[str, typer.Argument(help="JSON, or else a string as it is.")] = "null",
    as_string: Annotated[
        bool, typer.Option("--string", help="Send the value as a string, whatever it looks like.")
    ] = False,
    address: AddressOption = None,
    namespace: NamespaceOption = None,
) -> Answer:
    """Send a message to a coroutine; it is durable when this returns."""
    from ray_durable.checkpoint.codec import dumps

    with joined(address) as asker:
        id = asker.ask("lookup", name, namespace)["id"]
        sent = value if as_string else parsed(value)
        asker.ask("send", id, SYSTEM_CLOCK.unique(), 1, topic, dumps(sent))
    return Answer({"id": id, "topic": topic, "value": sent}, [f"Sent to {name} under {topic!r}: {json.dumps(sent)}"])


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@command
def cancel(name: NameArgument, address: AddressOption = None, namespace: NamespaceOption = None) -> Answer:
    """Cancel a coroutine at its next yield point; its `finally` blocks run."""
    with joined(address) as asker:
        row = asker.ask("lookup", name, namespace)
        cancelled = asker.ask("cancel", row["id"])
        if not cancelled:
            row = asker.ask("lookup", row["id"], namespace)
    said = f"{name} is being cancelled." if cancelled else f"{name} has {row['state']} already."
    return Answer({"id": row["id"], "cancelled": cancelled}, [said])


@command
def migrate(
    name: NameArgument,
    node: Annotated[str | None, typer.Option("--node", help="Beginning of the id of the node to move to.")] = None,
    address: AddressOption = None,
    namespace: NamespaceOption = None,
) -> Answer:
    """Move a coroutine at its next yield point, to the least loaded other node or the one named."""
    with joined(address) as asker:
        id = asker.ask("lookup", name, namespace)["id"]
        went = asker.ask("migrate", id, node)
        row = asker.ask("lookup", id, namespace)
    if not went:
        reason = f"{name} did not move: it is {row['state']} on {row['host'] or 'no host'}"
        raise CommandFailed(f"{reason}, and there is no other host for it, or it has just ended.")
    plain = {"id": id, "migrated": went, "host": row["host"], "node": row["node"], "epoch": row["epoch"]}
    return Answer(plain, [f"{name} moved to {row['host']} on node {short(row['node'])} (epoch {row['epoch']})."])


@command
def drain(
    node: Annotated[str | None, typer.Option("--node", help="Beginning of the node's id.")] = None,
    this_node: Annotated[
        bool, typer.Option("--this-node", help="The node on this machine: for a preStop hook.")
    ] = False,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0, help="Seconds until the node goes away.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when the node is empty; status 1 if it is not in time.")
    ] = False,
    address: AddressOption = None,
) -> Answer:
    """Move all coroutines off a node, which is about to go; nothing new is placed there."""
    if (node is None) == (not this_node):
        raise typer.BadParameter("give either --node or --this-node")
    with joined(address) as asker:
        id = resolve_node(node)
        seconds = Settings.load().drain_timeout_s if timeout is None else timeout
        deadline = SYSTEM_CLOCK.monotonic() + seconds
        refusal = asker.ask("drain", id, seconds)
        if refusal is not None:
            raise CommandFailed(f"Ray refuses to drain node {short(id)}: {refusal}.", "Nothing was moved.")
        left = coroutines_on(asker, id)
        while wait and left and SYSTEM_CLOCK.monotonic() < deadline:
            SYSTEM_CLOCK.sleep(DRAIN_POLL_S)
            left = coroutines_on(asker, id)
    plain = {"node": id, "timeout_s": seconds, "left": left, "drained": left == 0}
    if wait:
        said = f"Node {short(id)} is drained." if left == 0 else f"{left:,} coroutines are still on node {short(id)}."
        return Answer(plain, [said], code=0 if left == 0 else 1)
    return Answer(plain, [f"Node {short(id)} is draining: {left:,} coroutines to move within {seconds:g} s."])


def resolve_node(prefix: str | None) -> str:
    """The id of the live node that begins with `prefix`; None: of the node that this process has joined."""
    from ray_durable.actors import cluster

    if prefix is None:
        return cluster.this_node_id()
    found = [each.id for each in cluster.nodes() if each.alive and each.id.startswith(prefix)]
    if len(found) != 1:
        said = "No live node has an id that begins" if not found else f"{len(found)} live nodes have ids that begin"
        raise CommandFailed(f"{said} with {prefix!r}.", "`ray-durable status` shows ids.")
    return found[0]


def coroutines_on(asker: Asker, node: str) -> int:
    return sum(host["coroutines"] for host in asker.ask("status")["hosts"] if host["node"] == node)
