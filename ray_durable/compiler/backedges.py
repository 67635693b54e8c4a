"""Back-edges: how a long computation that never yields can be captured at the end of a pass of one of its loops.

A twin made with `back_edges=True` tests one list for emptiness per pass. When a timer of the layer above has called
`back_edges_due()`, the loop that tests it next suspends with the request registered by `suspend_at_back_edges`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray_durable.compiler.replacements import Awaited

DUE: list[bool] = []  # not empty: the next back-edge suspends. A constant of the compiled code, hence never replaced
REQUEST: list[Callable[[], Any]] = []


def suspend_at_back_edges(twin: Callable[[], Any]) -> None:
    """What a loop delegates to at a back-edge that is due: a durable generator function without arguments.

    Example: suspend_at_back_edges(checkpoint_request)
    """
    REQUEST[:] = [twin]


def back_edges_due() -> None:
    """Let the next back-edge suspend, whichever coroutine of this process reaches it. May be called from any thread."""
    DUE[:] = [True]


def back_edge() -> Any:
    """The delegate of a loop that suspends."""
    DUE.clear()
    return REQUEST[0]() if REQUEST else ()


def back_edge_async() -> Any:
    """The same, to be awaited."""
    return Awaited(iter(back_edge()))
