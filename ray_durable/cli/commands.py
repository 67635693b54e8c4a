"""The tree of commands, and the options that several of them have."""

from __future__ import annotations

from typing import Annotated

import typer

from ray_durable.cli import cluster, compiling, demo, doctor, history, storage, top

app = typer.Typer(
    name="ray-durable",
    help="Durable coroutines for Ray: see them, act on them, and look after their storage.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("status")(cluster.status)
app.command("list")(cluster.list_coroutines)
app.command("show")(cluster.show)
app.command("inspect")(cluster.inspect_coroutine)
app.command("history")(history.history)
app.command("top")(top.top)
app.command("send")(cluster.send)
app.command("cancel")(cluster.cancel)
app.command("migrate")(cluster.migrate)
app.command("drain")(cluster.drain)
app.command("demo")(demo.demo)
app.command("compile")(compiling.compile_file)
app.command("doctor")(doctor.doctor)
app.add_typer(storage.app, name="store")


def show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"ray-durable {version('ray-durable')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Durable coroutines for Ray: see them, act on them, and look after their storage."""
