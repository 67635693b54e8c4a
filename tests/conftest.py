"""One live cluster for all tests that leave it as it was: starting one takes as long as ten of them."""

from __future__ import annotations

import pytest
from hypothesis import settings

# The same examples in each run, so that a failure belongs to the change; `make chaos` looks for new ones. No deadline:
# other tests share the machine.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("new", deadline=None)
settings.load_profile("same")

SHARED = pytest.StashKey()
LAST = pytest.StashKey()


def shares(item):
    """Whether a test runs on the shared cluster; a module that disturbs its cluster has a `live` of its own."""
    return "live" in item.fixturenames and not hasattr(item.module, "live")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: not shares(item))
    config.stash[LAST] = next((item.module for item in reversed(items) if shares(item)), None)


@pytest.fixture(scope="module")
def live(request, tmp_path_factory):
    """A head and one node, with a controller and a host on each. It goes on to the next module that shares it."""
    from tests.cluster.live import LiveCluster

    stash = request.config.stash
    if SHARED not in stash:
        stash[SHARED] = LiveCluster(str(tmp_path_factory.mktemp("storage")), nodes=1)
    yield stash[SHARED]
    if request.module is stash[LAST]:
        stash[SHARED].stop()
        del stash[SHARED]


def pytest_sessionfinish(session):
    if SHARED in session.config.stash:  # it was cut short
        session.config.stash[SHARED].stop()
