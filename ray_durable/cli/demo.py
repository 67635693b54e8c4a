"""`ray-durable demo`: the example that kills nodes, run as it stands in the package (or in the repository)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

import ray_durable
from ray_durable.cli.output import Answer, CommandFailed, command

PROGRAM = "kill_nodes.py"


@command
def demo(
    input: Annotated[Path | None, typer.Option("--input", help="Tree of source or text files to index.")] = None,
    nodes: Annotated[int, typer.Option("--nodes", min=3, help="Nodes beside the head.")] = 4,
    cold: Annotated[bool, typer.Option("--cold", help="Kill the whole cluster in the middle, and go on.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the storage for a look.")] = False,
    seed: Annotated[int | None, typer.Option("--seed", help="Chooses what is killed and when.")] = None,
    record: Annotated[Path | None, typer.Option("--record", help="File for what was killed and when, as JSON.")] = None,
) -> Answer:
    """Start a local cluster, kill nodes of it while coroutines run, and check that nothing is lost. Takes minutes."""
    arguments = ["--nodes", str(nodes)]
    for name, value in (("--input", input), ("--seed", seed), ("--record", record)):
        arguments += [] if value is None else [name, str(value)]
    arguments += [name for name, asked in (("--cold", cold), ("--keep", keep)) if asked]
    done = subprocess.run([sys.executable, str(program()), *arguments], stdout=output())
    return Answer({"passed": done.returncode == 0, "exit_status": done.returncode}, code=min(done.returncode, 1))


def program() -> Path:
    """The example's file: within the installed package, or beside it in the repository."""
    package = Path(ray_durable.__file__).parent
    for found in (package / "examples" / PROGRAM, package.parent / "examples" / PROGRAM):
        if found.exists():
            return found
    raise CommandFailed("This installation has no examples.", "Run `make demo` in a clone of the repository.")


def output() -> int | None:
    """Where the demo writes: standard output, unless that is for JSON; then standard error."""
    return sys.stderr.fileno() if "--json" in sys.argv else None
