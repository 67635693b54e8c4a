"""How commands answer: tables and lines for people, JSON for programs, and errors that say what to do.

A command returns an `Answer`; `command` adds `--json` to it, prints the answer, and turns errors that a user can cause
into exit status 1. Anything else is our mistake and shows its traceback.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ray_durable.errors import RayDurableError

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.", rich_help_panel="Output")]
WIDE = 220  # columns of a table that goes to a file or a pipe, so that nothing is cut


class CommandFailed(RayDurableError):
    """A command could not do its work, for a reason that its user can mend. Fields: `reason`, `advice`."""

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason, advice)
        self.reason, self.advice = reason, advice

    def __str__(self) -> str:
        return f"{self.reason} {self.advice}".strip()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command found: `plain` for JSON, `shown` (what rich prints) for people, and its exit status."""

    plain: Any
    shown: Sequence[Any] = ()
    code: int = 0


def console(stderr: bool = False) -> Console:
    """A console that never cuts what is not on a terminal."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=None if terminal else WIDE, highlight=False, soft_wrap=not terminal)


def command(function: Callable[..., Answer]) -> Callable[..., None]:
    """A command from a function that returns its answer: prints it, and exits with its status."""

    @functools.wraps(function)
    def run(*args: Any, as_json: bool, **kwargs: Any) -> None:
        try:
            answer = function(*args, **kwargs)
        except (RayDurableError, PermissionError) as error:
            fail(error, as_json)
            raise typer.Exit(1) from None
        if as_json:
            print(json.dumps(answer.plain, indent=2, default=str))
        else:
            out = console()
            for each in answer.shown:
                out.print(each)
        if answer.code:
            raise typer.Exit(answer.code)

    signature = inspect.signature(function, eval_str=True)
    option = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), option], return_annotation=None
    )
    run.__annotations__ = {name: p.annotation for name, p in signature.parameters.items()} | {"as_json": JsonOption}
    return run


def fail(error: BaseException, as_json: bool) -> None:
    """Say what went wrong: one sentence on stderr, or an object with the error's fields on stdout."""
    if as_json:
        fields = {name: value for name, value in vars(error).items() if not name.startswith("_")}
        said = {"type": type(error).__name__, "message": str(error), **fields}
        print(json.dumps({"error": said}, indent=2, default=str))
    else:
        console(stderr=True).print(Text.assemble(("Error: ", "bold red"), str(error)))


def table(columns: Iterable[str], rows: Iterable[Sequence[Any]], *, right: Iterable[str] = ()) -> Table:
    """A table without lines, as `ray list` prints them. `right`: columns of numbers."""
    numbers = set(right)
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", no_wrap=True, overflow="ellipsis")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(as_text(cell)) for cell in row))
    return made


def facts(pairs: Mapping[str, Any]) -> Table:
    """Labels and values, one a line; what is None is left out."""
    made = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for label, value in pairs.items():
        if value is not None:
            made.add_row(Text(label), value if isinstance(value, Text) else Text(as_text(value)))
    return made


def headline(text: str) -> Text:
    return Text(f"======== {text} ========", style="bold")


def as_text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
