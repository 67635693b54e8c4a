"""Where a module's tests are, and what a user is told when they cannot be run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ray_durable.testing import conformance, runs, suites
from ray_durable.testing.runs import Run
from ray_durable.testing.suites import Target


def files(root: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = root / name.replace("__", "/").removesuffix("_py")
        path = path.with_suffix(".py") if name.endswith("_py") else path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("module", "tests"),
    [
        ("heapq", "test.test_heapq"),
        ("urllib.parse", "test.test_urlparse"),
        ("http.client", "test.test_httplib"),
        ("asyncio.locks", "test.test_asyncio.test_locks"),
        ("email.message", "test.test_email.test_message"),
        ("json.decoder", "test.test_json"),
        ("collections.abc", "test.test_collections"),
    ],
)
def test_the_tests_of_a_standard_library_module_are_found_by_its_name(module, tests):
    try:
        target = suites.target_of(module, None)
    except LookupError as missing:  # distributions leave some of CPython's tests out
        pytest.skip(str(missing))
    assert (target.tests, target.prefixes) == (tests, (module, tests))


def test_tests_are_found_in_the_package_and_beside_it_but_not_among_those_of_others(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    files(
        tmp_path,
        src__beside__only_py="",
        tests__test_of_it_py="",
        **{"site-packages__alone_py": "", "site-packages__tests__test_of_others_py": ""},
        **{"site-packages__holding__x_py": "", "site-packages__holding__t__its_test_py": ""},
    )
    (tmp_path / "src/beside/__init__.py").touch()
    (tmp_path / "site-packages/holding/__init__.py").touch()
    assert suites.target_of("beside", None).tests == str(tmp_path / "tests")
    assert suites.target_of("holding", None).tests == str(tmp_path / "site-packages/holding")
    with pytest.raises(LookupError, match="alone: it ships no tests with itself"):
        suites.target_of("alone", None)


def test_tests_that_are_not_there_are_refused_by_name(capsys):
    assert conformance.main(["heapq", "--tests", "no/such/directory"]) == 1
    assert "--tests no/such/directory is neither a file or directory" in capsys.readouterr().err


def test_a_packages_own_options_for_pytest_are_left_out_if_no_plugin_has_them(tmp_path, capsys):
    files(tmp_path, tests__test_it_py="def test_one():\n    pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --of-a-plugin-that-nobody-has\n")
    assert conformance.main(["nothing_at_all", "--tests", str(tmp_path / "tests")]) == 0
    said = capsys.readouterr()
    assert "run without its own options for pytest" in said.err
    assert said.out.split()[-9:-4] == ["1", "0", "1", "0", "0"]


def test_an_installed_package_is_not_tested_by_the_configuration_of_the_project_around_it(tmp_path, capsys):
    marked = "import pytest\n\n@pytest.mark.of_its_own\ndef test_one():\n    pass\n"
    files(tmp_path, **{"site-packages__installed__tests__test_it_py": marked})
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    assert conformance.main(["it", "--tests", str(tmp_path / "site-packages/installed")]) == 0, capsys.readouterr()


UNITTEST = """
import unittest

class Tests(unittest.TestCase):
    def test_that_is_called_by_a_number(self):
        self.id = 12

    def test_that_knows_what_runs_it(self):
        def native():
            yield
        self.assertEqual(native.__code__.co_varnames, (), "durable")
"""


def test_why_a_test_fails_only_when_durable_is_said(tmp_path, monkeypatch, capsys):
    files(tmp_path, its_own_tests_py=UNITTEST)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert conformance.main(["nothing_at_all", "--tests", "its_own_tests"]) == 1
    said = capsys.readouterr()
    assert "only when durable: its_own_tests.Tests.test_that_knows_what_runs_it: AssertionError: " in said.err
    assert said.out.split()[-9:-4] == ["2", "0", "1", "1", "1"]


def test_tests_that_do_not_run_on_this_platform_are_no_failure(tmp_path, monkeypatch, capsys):
    files(tmp_path, elsewhere_py="import unittest\nraise unittest.SkipTest('only on another machine')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert conformance.main(["nothing_at_all", "--tests", "elsewhere"]) == 0
    assert "nothing_at_all: its tests do not run here: only on another machine" in capsys.readouterr().err


def test_why_most_tests_fail_natively_is_said(capsys):
    target = Target("m", "m.tests", "pytest", ("m",))
    failing = Run({"a": "failed", "b": "failed", "c": "passed"}, reasons={"a": "ImportError: nose"})
    conformance.show(conformance.Comparison(target, failing, failing), verbose=False)
    assert "m: a: ImportError: nose" in capsys.readouterr().err


ENDING = "def test_one():\n    pass\n\ndef test_that_ends_all():\n    raise KeyboardInterrupt\n"


def test_tests_that_end_pytest_are_no_complete_run(tmp_path):
    files(tmp_path, tests__test_it_py=ENDING)
    tests = str(tmp_path / "tests")
    found = runs.run(Target("it", tests, "pytest", ("it",), tests), durable=False, timeout_s=60)
    assert found.outcomes["tests/test_it.py::test_one"] == "passed"
    assert "the last test begun was tests/test_it.py::test_that_ends_all; exit status 2" in found.error


LITTERING = """
import pathlib, tempfile

def test_that_leaves_a_file():
    (pathlib.Path(tempfile.gettempdir()) / "ray_durable-conformance-litter").touch(exist_ok=False)
"""


def test_what_one_run_leaves_among_temporary_files_is_not_there_in_the_next(tmp_path, capsys):
    files(tmp_path, tests__test_it_py=LITTERING)
    assert conformance.main(["it", "--tests", str(tmp_path / "tests")]) == 0, capsys.readouterr()


LEAVING = """
import os, subprocess, sys, time

def test_that_waits_with_a_child(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(os.environ["CHILD"], "w") as file:
        file.write(str(child.pid))
    time.sleep(600)
"""


def test_what_the_tests_started_is_ended_with_them_when_they_take_too_long(tmp_path, monkeypatch):
    files(tmp_path, tests__test_it_py=LEAVING)
    monkeypatch.setenv("CHILD", str(tmp_path / "child"))
    tests = str(tmp_path / "tests")
    found = runs.run(Target("it", tests, "pytest", ("it",), tests), durable=False, timeout_s=5)
    assert "not done after 5 s\nthe last test begun was tests/test_it.py::test_that_waits_with_a_child" in found.error
    assert is_gone(int((tmp_path / "child").read_text()))


def test_ctrl_c_ends_the_tests_and_prints_what_there_is(tmp_path):
    files(tmp_path, tests__test_it_py=LEAVING)
    child = tmp_path / "child"
    command = [sys.executable, "-m", "ray_durable.testing.conformance", "it", "--tests", str(tmp_path / "tests")]
    running = subprocess.Popen(
        command,
        env={**os.environ, "CHILD": str(child)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which jobs in the background ignore
    )
    deadline = time.monotonic() + 60
    while not (child.exists() and child.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=30)[1]
    assert running.returncode == conformance.INTERRUPTED
    assert said.startswith("it: interrupted")
    assert is_gone(int(child.read_text()))


def is_gone(process: int) -> bool:
    """Whether it ends: it is nobody's child that would wait for it."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
            os.kill(process, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


LIMITED = """
import time, pytest

@pytest.mark.timeout(0.1)
def test_that_takes_longer():
    time.sleep(0.3)
"""


def test_a_test_with_a_time_limit_of_its_own_takes_as_long_as_it_takes(tmp_path):
    tests = str(tmp_path / "tests")
    Path(tests).mkdir()
    (Path(tests) / "test_limited.py").write_text(LIMITED)
    found = runs.run(Target("it", tests, "pytest", ("it",), tests), durable=False, timeout_s=60)
    assert found.outcomes == {"tests/test_limited.py::test_that_takes_longer": "passed"}
