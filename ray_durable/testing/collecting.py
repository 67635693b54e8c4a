"""Runs a package's tests by pytest for `conforming`, alike in both runs: in one process, in one order, with no limits
of time that a durable run would exceed for being slower."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ray_durable.testing.reporting import REASONS, begun, counts, ended, first_line, write
from ray_durable.testing.suites import INSTALLED

ENDED_EARLY, USAGE_ERROR, NO_TESTS = (2, 3), 4, 5  # exit statuses of pytest: interrupted and broken, …
CONFIGURATIONS = ("pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
OF_PLUGINS = {  # options by the plugin that has them, if it is installed
    "hypothesis": "--hypothesis-seed=0",
    "xdist": "-n0",  # the functions of other processes would not be durable
    "pytest_cov": "--no-cov",
    "pytest_timeout": "--timeout=0",
    "pytest_benchmark": "--benchmark-disable",
}


class Collector:
    """A pytest plugin that notes every test's outcome."""

    def __init__(self, names_only: bool = False) -> None:
        self.outcomes: dict[str, str] = {}
        self.names_only = names_only

    def pytest_collection_finish(self, session: Any) -> None:
        if self.names_only:
            self.outcomes |= dict.fromkeys((item.nodeid for item in session.items), "named")

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_timeout_set_timer(self) -> bool:
        """pytest-timeout starts no timer, also not for a test with a mark of its own."""
        return True

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        begun(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.outcomes[report.nodeid] = "failed"
            REASONS[report.nodeid] = reason(report)
        elif report.skipped:
            self.outcomes.setdefault(report.nodeid, "skipped")
        elif report.when == "call":
            self.outcomes.setdefault(report.nodeid, "passed")

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        ended(nodeid, self.outcomes)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            test = f"{report.nodeid} (import)"
            self.outcomes[test] = "failed"
            REASONS[test] = reason(report)


def reason(report: Any) -> str:
    """Why a test failed, in a line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        return first_line(str(crash.message))
    lines = str(report.longrepr).splitlines() or [""]
    return next((line.removeprefix("E").strip() for line in reversed(lines) if line.startswith("E  ")), lines[-1])


def by_pytest(plan: dict[str, Any]) -> dict[str, str]:
    """Run the tests at a path, or `only` those with these ids."""
    without_deadlines()
    collector = Collector(plan["collect"])
    arguments = options(plan["tests"], plan["select"], plan["only"])
    if plan["collect"]:
        arguments.append("--collect-only")
    status = pytest.main(list(arguments), plugins=[collector])
    if status == USAGE_ERROR and not collector.outcomes:
        again = pytest.main(["-o", "addopts=", *arguments], plugins=[collector])
        if again != USAGE_ERROR:
            status = again
            write({"notes": ["run without its own options for pytest (addopts), which need a plugin that is missing"]})
    if status in ENDED_EARLY:
        write({"outcomes": collector.outcomes, "reasons": REASONS, "counts": counts()})
        sys.exit(int(status))
    if status == NO_TESTS:
        write({"notes": ["pytest found no tests: those in files of other names than test_….py are named with --tests"]})
    return collector.outcomes


def options(path: str, select: str | None, only: Sequence[str]) -> list[str]:
    found = ["-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", "-p", "no:randomly", "--assert=plain"]
    found += ["-W", "default", "--maxfail=0", "--continue-on-collection-errors"]
    if not os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        found += [option for plugin, option in OF_PLUGINS.items() if importlib.util.find_spec(plugin)]
    if select:
        found += ["-k", select]
    root = Path(path).parent
    if is_beyond_projects(root):
        found += ["-c", os.devnull]
    return [*found, "--rootdir", str(root), *([str(root / test) for test in only] or [path])]


def is_beyond_projects(directory: Path) -> bool:
    """Whether tests are of an installed package without a configuration of its own for pytest: that of a project in
    which the virtual environment lies is not for them."""
    for each in (directory, *directory.absolute().parents):
        if each.name in INSTALLED:
            return True
        if any((each / name).exists() for name in CONFIGURATIONS):
            return False
    return False


def without_deadlines() -> None:
    """Tests of hypothesis take as long as they take."""
    if importlib.util.find_spec("hypothesis"):
        from hypothesis import HealthCheck, settings

        settings.register_profile("conformance", deadline=None, suppress_health_check=list(HealthCheck))
        settings.load_profile("conformance")
