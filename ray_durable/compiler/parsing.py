"""`ast.parse` that nothing disturbs.

CPython 3.11.7 (3.12.1 no more) counts how deep the tree is that it builds in one place for all of the interpreter.
When something else is parsed meanwhile, in a finalizer that the garbage collector runs or in another thread, it raises
SystemError at the end. Nothing is wrong with the text then: it is parsed again.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TypeVar

Tree = TypeVar("Tree", bound=ast.AST)
TRIES_MAX = 20


def parse(text: str | bytes, filename: str = "<unknown>") -> ast.Module:
    """The tree of statements. Raises: SyntaxError, ValueError."""
    return again(lambda: ast.parse(text, filename))


def parse_expression(text: str, filename: str = "<unknown>") -> ast.Expression:
    """The tree of an expression. Raises: SyntaxError, ValueError."""
    return again(lambda: ast.parse(text, filename, "eval"))


def again(read: Callable[[], Tree]) -> Tree:
    for _ in range(TRIES_MAX - 1):
        try:
            return read()
        except SystemError as error:
            if "recursion depth mismatch" not in str(error):
                raise
    return read()
