"""StopIteration out of a plain function, whose twin ends by a RuntimeError in its place: how to get it back.

Compiled code asks at calls inside a `try` or `with` (`passes.stopping`), and a host where a twin has ended by raising.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from types import TracebackType

from ray_durable.compiler.unit import unit_of


def stop_of(error: BaseException) -> StopIteration | None:
    """The StopIteration that a plain function raised, with its whole traceback, if `error` is what CPython made of it.

    Example: raise stop_of(error) or error"""
    cause = error.__cause__
    if type(error) is not RuntimeError or not isinstance(cause, StopIteration) or cause.__traceback__ is None:
        return None
    unit = unit_of(cause.__traceback__.tb_frame.f_code)
    if unit is None or not unit.is_twin:
        return None
    return cause.with_traceback(joined(error.__traceback__, cause.__traceback__))


def joined(outer: TracebackType | None, inner: TracebackType) -> TracebackType:
    """The way out of the twin, and from there on: the first frame of `inner` may be the last of `outer` too."""
    entries = []
    while outer is not None and outer.tb_frame is not inner.tb_frame:
        entries.append((outer.tb_frame, outer.tb_lasti, outer.tb_lineno))
        outer = outer.tb_next
    for entry in reversed(entries):
        inner = TracebackType(inner, *entry)
    return inner


def stopped() -> bool:
    """Whether the exception being handled is such a one. Its cause is ready to be raised in the frame that asks."""
    error = sys.exception()
    found = None if error is None else stop_of(error)
    if found is None or found.__traceback__ is None:
        return False
    found.__traceback__ = found.__traceback__.tb_next  # the frame that asks is added by raising there
    return True


def stop() -> BaseException | None:
    """The cause of the exception being handled."""
    error = sys.exception()
    return None if error is None else error.__cause__


def ended() -> Generator[None, None, None]:
    """A generator at its end: what is thrown into it comes out as it went in, context and all."""
    yield from ()


OVER = ended()
list(OVER)
