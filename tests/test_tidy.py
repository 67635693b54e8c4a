"""The rules of the code's shape, read off the source: layers, one door to time and chance, small files."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ray_durable"
FILES = sorted(PACKAGE.rglob("*.py"))
LINES_MAX = 400

# From the ground up: a file imports from its own level and those below.
LEVELS = [
    {"errors", "config", "clock", "metrics", "logs"},
    {"compiler"},
    {"running", "checkpoint", "operations", "concurrency", "steps", "runner", "inspection", "resources"},
    {"actors"},
]
CLOCKS = {"time", "random", "uuid", "secrets"}
MAY_USE_CHANCE = {
    "clock.py",  # the door itself
    "operations.py",  # names `time.sleep`, to stand in for it
    "actors/heartbeat.py",  # a token against forgery must not come from a clock that can be simulated
}


def level(name: str) -> int:
    top = name.split(".")[0]
    return next((i for i, names in enumerate(LEVELS) if top in names), len(LEVELS))


def imports(path: Path, *, top_only: bool = False) -> list[str]:
    """Modules that a file imports, as full names; those under `if TYPE_CHECKING` do not count."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = []
    for node in tree.body if top_only else ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE).with_suffix("")).replace("/", ".")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_down_only(path):
    mine = level(name_of(path))
    for name in imports(path):
        if name.startswith("ray_durable."):
            other = name.removeprefix("ray_durable.")
            assert level(other) <= mine, f"{name_of(path)} imports {other}, which is above it"


def test_only_the_actors_and_the_users_face_know_ray():
    for path in FILES:
        if level(name_of(path)) < level("actors"):
            assert not [name for name in imports(path) if name.split(".")[0] == "ray"], path


def test_the_private_api_of_ray_is_used_in_one_file():
    users = {name_of(path) for path in FILES if any(name.startswith("ray._") for name in imports(path))}
    assert users <= {"actors.cluster"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_time_and_chance_have_one_door(path):
    if str(path.relative_to(PACKAGE)) in MAY_USE_CHANCE:
        return
    used = CLOCKS.intersection(name.split(".")[0] for name in imports(path))
    assert not used, f"{path.name} uses {used}: take a Clock"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_are_small(path):
    lines = len(path.read_text().splitlines())
    assert lines <= LINES_MAX, f"{path.name} has {lines} lines: split it at its second idea"


def test_no_file_is_dead():
    imported = set()
    for path in [*FILES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "docs").rglob("*.py")]:
        if not path.name.startswith("since_"):  # programs in the syntax of a later Python
            imported.update(imports(path))
    for init in PACKAGE.rglob("__init__.py"):  # lazily resolved names are strings there
        folder = "ray_durable" if init.parent == PACKAGE else f"ray_durable.{name_of(init.parent)}"
        texts = {n.value for n in ast.walk(ast.parse(init.read_text())) if isinstance(n, ast.Constant)}
        imported.update(f"{folder}.{text}" for text in texts if isinstance(text, str))
    for path in FILES:
        if path.name in ("__init__.py", "__main__.py"):
            continue
        assert f"ray_durable.{name_of(path)}" in imported, f"nothing imports {path}"


@pytest.mark.parametrize("package", ["ray_durable", "ray_durable.compiler", "ray_durable.checkpoint"])
def test_public_names_are_sorted_and_exist(package):
    module = importlib.import_module(package)
    assert list(module.__all__) == sorted(module.__all__)
    for name in module.__all__:
        assert not isinstance(getattr(module, name), type(sys)), f"{package}.{name} is a module"


@pytest.mark.parametrize(
    ("layer", "absent"),
    [
        ("ray_durable", {"ray", "libcst", "pyarrow"}),
        ("ray_durable.compiler", {"ray", "libcst", "pyarrow", "obstore"}),
        ("ray_durable.checkpoint", {"ray", "libcst", "pyarrow", "obstore"}),
        ("ray_durable.runner", {"ray"}),
    ],
)
def test_importing_a_layer_loads_that_layer(layer, absent):
    code = f"import sys, {layer}; print(*sorted({absent!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.split() == []
