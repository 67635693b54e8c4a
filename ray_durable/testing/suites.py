"""Where a module's own tests are, for a conformance run of them."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

INSTALLED = ("site-packages", "dist-packages")  # directories that packages of others share
NAMED = ("test_*.py", "*_test.py")  # as pytest finds tests
CPYTHON = {  # tests of standard library modules that are not named after them
    "_pyio": "io",
    "cProfile": "cprofile",
    "collections.abc": "collections",
    "encodings": "codecs",
    "html.parser": "htmlparser",
    "http": "httplib",
    "http.client": "httplib",
    "http.server": "httpservers",
    "idlelib": "idle",
    "multiprocessing": "multiprocessing_fork",
    "numbers": "abstract_numbers",
    "os.path": "posixpath",
    "tkinter": "tcl",
    "urllib.error": "urllib2",
    "urllib.parse": "urlparse",
    "urllib.request": "urllib2",
    "urllib.robotparser": "robotparser",
    "xml": "xml_etree",
    "xml.dom": "minidom",
    "xml.dom.minidom": "minidom",
    "xml.dom.pulldom": "pulldom",
    "xml.etree": "xml_etree",
    "xml.etree.ElementTree": "xml_etree",
    "xml.sax": "sax",
}


@dataclass(frozen=True, slots=True)
class Target:
    """What to test: the module, its tests (a module name, or a path for pytest), and what is made durable."""

    name: str
    tests: str
    runner: str  # "unittest" or "pytest"
    prefixes: tuple[str, ...]
    directory: str | None = None  # of tests that are not named by a prefix


def target_of(name: str, tests: str | None) -> Target:
    """Where the tests of a module are; `tests`, a path for pytest or a module for unittest, if they are told.

    Raises: LookupError when there are none to be found."""
    found = spec_of(name)
    if tests is not None:
        return told(name, tests)
    top = name.split(".")[0]
    if top == "test":
        if found is None:
            raise LookupError(f"{name}: this interpreter ships no such tests")
        return Target(name, name, "unittest", (name,))
    if top in sys.stdlib_module_names:
        return of_cpython(name)
    if found is None or (found.origin is None and not found.submodule_search_locations):
        raise LookupError(f"{name}: it is not installed for {sys.executable}")
    if is_of_tests(name) and not found.submodule_search_locations:
        return Target(name, name, "unittest", (top,))
    return by_place(name, found)


def is_of_tests(name: str) -> bool:
    """Whether a module within a package is of tests itself, as `tornado.test.gen_test` is."""
    *packages, last = name.split(".")
    return bool(packages) and (last in ("test", "tests") or last.startswith("test_") or last.endswith("_test"))


def spec_of(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a package around it is missing or broken, or it has no spec itself
        return None


def told(name: str, tests: str) -> Target:
    path = Path(tests)
    if path.exists():
        directory = path if path.is_dir() else path.parent
        return Target(name, tests, "pytest", (name,), str(directory))
    if spec_of(tests) is not None:
        return Target(name, tests, "unittest", (name, tests))
    raise LookupError(f"{name}: --tests {tests} is neither a file or directory, nor a module that can be imported")


def of_cpython(name: str) -> Target:
    tried = list(cpython_names(name))
    for tests in tried:
        if spec_of(tests) is not None:
            return Target(name, tests, "unittest", (name, tests))
    raise LookupError(f"{name}: this interpreter ships no tests of it (looked for {', '.join(tried)})")


def cpython_names(name: str) -> list[str]:
    """What the tests of a standard library module may be named, the likeliest first."""
    parts = name.lstrip("_").split(".")
    names = [f"test.test_{CPYTHON[name]}"] if name in CPYTHON else []
    for count in range(len(parts), 0, -1):
        names.append(f"test.test_{'_'.join(parts[:count])}")
        if count > 1:
            names.append(f"test.test_{parts[0]}.test_{'_'.join(parts[1:count])}")
    return names


def by_place(name: str, found: ModuleSpec) -> Target:
    """The tests within an installed package, or, of one that is not among others, beside it."""
    if found.submodule_search_locations:
        package = Path(next(iter(found.submodule_search_locations)))
        if has_tests(package):
            return Target(name, str(package), "pytest", (name,))
        around = package.parent
    else:
        around = Path(found.origin or "").parent
    places = [around / f"{name}_tests"]
    if around.name not in INSTALLED:
        places += [around / "tests", around / "test"]
        places += [around.parent / "tests", around.parent / "test"] if around.name == "src" else []
    for path in places:
        if has_tests(path):
            return Target(name, str(path), "pytest", (name,), str(path))
    raise LookupError(
        f"{name}: it ships no tests with itself; if its source distribution does "
        f"(pip download --no-deps --no-binary :all: …), unpack that and name them with --tests PATH"
    )


def has_tests(directory: Path) -> bool:
    return any(True for pattern in NAMED for _ in directory.glob(f"**/{pattern}"))
