"""From statements to code objects: a factory gives the function its closure, constants get the run-time helpers.

The tree carries the positions of the source and is compiled under the user's file name, so that tracebacks, carets and
debuggers show the user's own lines. Nested functions are found again in the code by a mark in their docstring.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any

from ray_durable.compiler import support
from ray_durable.compiler.passes.build import HELPER_MARK, NOWHERE, constant, load, located
from ray_durable.compiler.passes.source import FUTURE_FLAGS
from ray_durable.compiler.passes.walking import fill_positions, walk
from ray_durable.compiler.replacements import INSIDE
from ray_durable.compiler.unit import Source
from ray_durable.errors import UnsupportedSyntaxError

Definition = ast.FunctionDef | ast.AsyncFunctionDef
Found = Callable[[tuple[int, ...], CodeType], None]

NESTED_MARK = (
    "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}ray_durable unit\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} "
)
SEPARATOR = "\0"
CO_GENERATOR = 0x20
TYPE_PARAMETERS = "<generic parameters of "  # the code of their scope: what is in there is not named after it
ROOT = "ray_durable function"  # no name that code could refer to


def mark(path: tuple[int, ...], name: str, docstring: str | None) -> ast.stmt:
    """The docstring by which `finish` knows a nested function's code; the user's own is put back there."""
    words = [NESTED_MARK + ".".join(map(str, path)), name, *([] if docstring is None else [docstring])]
    return ast.Expr(constant(SEPARATOR.join(words)))


def function(definition: Definition, body: Sequence[ast.stmt], is_async: bool, parameters: ast.arguments) -> Definition:
    """A definition with this body, bare of decorators, defaults and annotations: those of the original are kept."""
    kind = ast.AsyncFunctionDef if is_async else ast.FunctionDef
    new = located(kind(definition.name, parameters, list(body) or [ast.Pass()], []), definition)
    new.type_params = []  # type: ignore[attr-defined, union-attr, unused-ignore]
    new.called = getattr(definition, "called", definition.name)  # type: ignore[union-attr]
    return new


def bare(arguments: ast.arguments) -> ast.arguments:
    """Parameters alone. Defaults stay as None: a function's own `__defaults__` count."""

    def plain(argument: ast.arg | None) -> ast.arg | None:
        return None if argument is None else located(ast.arg(argument.arg), argument)

    def every(found: list[ast.arg]) -> list[ast.arg]:
        return [located(ast.arg(argument.arg), argument) for argument in found]

    return ast.arguments(
        every(arguments.posonlyargs), every(arguments.args), plain(arguments.vararg), every(arguments.kwonlyargs),
        [constant(None)] * len(arguments.kwonlyargs), plain(arguments.kwarg), [],
    )  # fmt: skip


def code_of(definition: Definition, free: Sequence[str], source: Source, qualname: str, found: Found) -> CodeType:
    """Compile a definition whose free variables are `free`. `found(path, code)` is told of each nested function."""
    name = getattr(definition, "called", definition.name)
    definition.name = ROOT
    returned = located(ast.Return(load(ROOT)), definition)
    parameters = ast.arguments([], [ast.arg(name) for name in dict.fromkeys(free)], None, [], [], None, [])
    factory = located(ast.FunctionDef("factory", parameters, [definition, returned], []), definition)
    factory.type_params = []  # type: ignore[attr-defined, unused-ignore]
    module = ast.Module([factory], [])
    fill_positions(module)
    if sys.version_info >= (3, 13):
        keep_apart(module)
    try:
        compiled = compile(module, source.filename, "exec", source.flags & FUTURE_FLAGS, dont_inherit=True, optimize=-1)
    except SyntaxError as error:  # what CPython limits: blocks within blocks
        what = f"{error.msg}, with those that ray_durable adds"
        instead = "move an inner loop, with or try to a function of its own"
        raise UnsupportedSyntaxError(
            f"in {source.qualname}(): {what}. Instead: {instead}.", source.filename, error.lineno or source.firstlineno
        ) from error
    outer = next(each for each in compiled.co_consts if isinstance(each, CodeType))
    code = next(each for each in outer.co_consts if isinstance(each, CodeType))
    return finish(code, code.co_qualname, qualname, found).replace(co_name=name)


def keep_apart(module: ast.AST) -> None:
    # x = None    =>    (x := None)        where it has no line: CPython makes one instruction of such a store and the
    #                                      load in the user's line behind it, and a jump to that line lands after both
    for node in walk(module):
        for name in ("body", "orelse", "finalbody"):
            found = getattr(node, name, None)
            block: list[ast.stmt] = found if isinstance(found, list) else []
            for index, statement in enumerate(block):
                if isinstance(statement, ast.Assign) and statement.lineno < 0:
                    value = statement.value
                    for target in reversed(statement.targets):
                        value = located(ast.NamedExpr(target, value), NOWHERE)  # type: ignore[arg-type]
                    block[index] = located(ast.Expr(value), NOWHERE)


def finish(code: CodeType, made: str, wanted: str, found: Found) -> CodeType:
    """Put helpers, docstrings and names into a code object and those nested in it.

    `made`: the qualified name of the function around, as compiled; `wanted`: as it shall be."""
    constants: list[Any] = list(code.co_consts)
    qualname, name = wanted + code.co_qualname.removeprefix(made), code.co_name
    path: tuple[int, ...] | None = None
    for index, each in enumerate(constants):
        if isinstance(each, str) and each.startswith(made + "."):
            constants[index] = wanted + each.removeprefix(made)  # the `__qualname__` of a class
        elif isinstance(each, str) and each.startswith(NESTED_MARK):
            numbers, name, *docstring = each[len(NESTED_MARK) :].split(SEPARATOR, 2)
            path = tuple(map(int, numbers.split(".")))
            qualname = qualname.removesuffix(code.co_name) + name
            constants[index] = docstring[0] if docstring else None
        elif isinstance(each, str) and each.startswith(HELPER_MARK):
            constants[index] = support.HELPERS[each[len(HELPER_MARK) :]]
    around = (made, wanted) if code.co_name.startswith(TYPE_PARAMETERS) else (code.co_qualname, qualname)
    for index, each in enumerate(constants):
        if isinstance(each, CodeType):
            constants[index] = finish(each, *around, found)
    code = code.replace(co_consts=tuple(constants), co_qualname=qualname, co_name=name)
    if path is not None:
        found(path, code)
    elif name == "<lambda>" and not code.co_flags & CO_GENERATOR:
        INSIDE[id(code)] = code
    return code
