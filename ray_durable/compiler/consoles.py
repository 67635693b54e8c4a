"""Texts that no file holds: what was typed into a console, `python -c`, or what a loader gives for `<a name>`.

A candidate counts only where it compiles to the very code that is asked for (`sources`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import FrameType, FunctionType
from typing import Any

from ray_durable.clock import SYSTEM_CLOCK

LOADED_AT = SYSTEM_CLOCK.now()
TYPED_MAX = 500  # lines of one statement, looked back for


def texts(function: FunctionType) -> Iterator[list[str]]:
    """Texts, as lines, that `function` may have been defined in; the likeliest first."""
    for text in (*loaded(function.__globals__), *given(), *interpreted()):
        yield text.splitlines(keepends=True)
    yield from typed()


def loaded(variables: dict[str, Any]) -> Iterator[str]:
    """What the loader of the function's module gives, which `linecache` does not ask about `<names>`."""
    loader: Any = variables.get("__loader__")
    name = variables.get("__name__")
    if hasattr(loader, "get_source") and isinstance(name, str):
        try:
            text = loader.get_source(name)
        except ImportError:
            return
        if text:
            yield text


def given() -> Iterator[str]:
    """The program of `python -c`."""
    arguments = sys.orig_argv
    for index, argument in enumerate(arguments[1:], 1):
        if argument == "-c" and index + 1 < len(arguments):
            yield arguments[index + 1]
        if not argument.startswith("-") or argument == "-c":
            return


def interpreted() -> Iterator[str]:
    """What `code.interact` and its like run right now, innermost first."""
    consoles = sys.modules.get("code")
    if consoles is None:
        return
    runs = consoles.InteractiveInterpreter.runsource.__code__
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is runs:
            yield frame.f_locals["source"]
        frame = frame.f_back


def typed() -> Iterator[list[str]]:
    """The last lines that were typed into an interactive Python, one more each time: it keeps no text itself."""
    history = sys.modules.get("readline")
    if history is None:
        return
    last = history.get_current_history_length()
    lines: list[str] = []
    for index in range(last, max(0, last - TYPED_MAX), -1):
        lines.insert(0, (history.get_history_item(index) or "") + "\n")
        yield list(lines)


def is_newer(filename: str) -> bool:
    """Whether a file was written after this process began, so that its text may not be what was loaded."""
    try:
        return os.stat(filename).st_mtime > LOADED_AT
    except OSError:
        return False
