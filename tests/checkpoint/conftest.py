import pytest

from ray_durable.checkpoint.stores.local import LocalStore
from ray_durable.checkpoint.stores.memory import MemoryStore


@pytest.fixture(params=["local", "local-named", "memory"])
def store(request, tmp_path):
    """Each store of this machine; "local-named" is a file system without unnamed files."""
    if request.param == "memory":
        yield MemoryStore()
        return
    with LocalStore(tmp_path / "store") as opened:
        if request.param == "local-named":
            opened.unnamed_files = False
        yield opened
