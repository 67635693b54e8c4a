"""Each pass, source to source, where everything suspends: `golden/<case>.before.py` becomes `golden/<case>.after.py`.

The files are meant to be read. `RAY_DURABLE_UPDATE_GOLDEN=1 pytest tests/compiler/test_golden.py` writes them anew.
"""

import ast
import os
from pathlib import Path

import pytest

from ray_durable.compiler import backedges, pipeline
from ray_durable.compiler.passes.branches import branches
from ray_durable.compiler.passes.build import Suspend, child_blocks
from ray_durable.compiler.passes.edges import edges
from ray_durable.compiler.passes.fresh import suspension
from ray_durable.compiler.passes.handlers import handlers
from ray_durable.compiler.passes.loops import loops
from ray_durable.compiler.passes.managers import managers
from ray_durable.compiler.passes.names import Names
from ray_durable.compiler.passes.scopes import analyse
from ray_durable.compiler.passes.yieldpoints import Context
from ray_durable.compiler.render import Readable, as_text, fresh_definition
from ray_durable.compiler.unit import Source

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.name.partition(".")[0] for path in GOLDEN.glob("*.after.py"))
STRUCTURAL = {
    "branches": branches, "guards": branches, "loops": loops, "async_for": loops, "managers": managers,
    "async_with": managers, "handlers": handlers, "finally": handlers, "except_star": handlers, "edges": edges,
    "monitored_edges": edges,
}  # fmt: skip


def source_of(case):
    text = (GOLDEN / f"{case.removeprefix('monitored_')}.before.py").read_text()
    return Source(text, "golden", ast.parse(text).body[0].name, f"{case}.py", 1)


def one_pass(source, rewrite):
    """Only this pass, over the source as it stands."""
    definition = pipeline.parse(source)
    scope = analyse(definition, ())
    names = Names.avoiding({*scope.bound, *scope.used})
    kind = pipeline.kind_of(definition)
    context = Context(source, "native", kind, names, scope, lambda call: False, back_edges=rewrite is edges)
    definition.body = in_words(pipeline.structure(definition.body, context, [rewrite]))
    return ast.unparse(ast.fix_missing_locations(Readable().visit(definition)))


def in_words(body):
    """Yield points in their final form, as the statements that they stand for."""
    found = []
    for statement in body:
        for owner, name in child_blocks(statement):
            setattr(owner, name, in_words(getattr(owner, name)))
        found.append(suspension(statement, statement.operand) if isinstance(statement, Suspend) else statement)
    return found


def after(case):
    source = source_of(case)
    if case in STRUCTURAL:
        return one_pass(source, STRUCTURAL[case])
    mode = "twin" if case == "calls" else "native"
    if not case.startswith("resume"):
        return as_text(fresh_definition(pipeline.passes(source, mode)))
    unit = pipeline.build(source, mode)
    return as_text(pipeline.resume_definition(pipeline.passes(source, mode), unit), unit)


@pytest.mark.parametrize("case", CASES)
def test_pass_turns_before_into_after(case, monkeypatch):
    monkeypatch.setattr(backedges, "tool", lambda: 4 if case == "monitored_edges" else None)  # on every version
    made = after(case) + "\n"
    path = GOLDEN / f"{case}.after.py"
    if os.environ.get("RAY_DURABLE_UPDATE_GOLDEN"):
        path.write_text(made)
    # as trees: `ast.unparse` lays out a little differently from version to version
    assert ast.dump(ast.parse(made)) == ast.dump(ast.parse(path.read_text()))


def test_every_after_has_a_before():
    assert {path.name.partition(".")[0] for path in GOLDEN.glob("*.after.py")} == set(CASES)
