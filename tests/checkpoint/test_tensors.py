"""PyTorch's tensors, where it is installed."""

import subprocess
import sys

import pytest

from ray_durable.checkpoint.chunks import Chunks
from ray_durable.checkpoint.codec import dumps, loads
from ray_durable.checkpoint.stores.memory import MemoryStore


def test_torch_is_not_imported_for_it():
    script = "import ray_durable.checkpoint.codec as c, sys; c.dumps([1, {2}]); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def chunks():
    return Chunks(MemoryStore(), "w")


def stored(chunks, state):
    """The state's bytes, and how many more its buffers took."""
    data = dumps(state, chunks)
    packs = chunks.take(0)
    for pack in packs:
        chunks.store.create(*chunks.encode(pack))
    return data, sum(pack.size for pack in packs)


def test_an_unchanged_tensor_costs_nothing_and_a_touched_one_its_pages(torch, chunks):
    tensor = torch.rand(1 << 20)
    data, size = stored(chunks, {"weights": tensor})
    assert size >= tensor.nbytes
    assert len(data) < 1500
    assert stored(chunks, {"weights": tensor})[1] == 0
    tensor[5000] += 1
    data, size = stored(chunks, {"weights": tensor})
    assert 0 < size < 20_000
    assert torch.equal(loads(data, chunks)["weights"], tensor)


def test_tensors_of_all_kinds_come_back(torch, chunks):
    parameter = torch.nn.Parameter(torch.rand(300, 300))
    values = {
        "bfloat16": torch.rand(200, 300).to(torch.bfloat16),
        "bool": torch.rand(400_000) > 0.5,
        "small": torch.tensor([1, 2, 3]),
        "scalar": torch.tensor(1.5),
        "empty": torch.empty(0, 3),
        "complex": torch.rand(9, dtype=torch.complex64).conj(),
        "transposed": torch.rand(300, 400).T,
        "sliced": torch.rand(400, 400)[7:9, ::3],
        "with_grad": torch.rand(5, requires_grad=True),
        "sparse": torch.eye(4).to_sparse(),
        "parameter": parameter,
    }
    data, _ = stored(chunks, values)
    for found in (loads(data, chunks), loads(dumps(values))):
        for name, value in values.items():
            same = found[name].to_dense() if name == "sparse" else found[name]
            assert torch.equal(same, value.to_dense() if name == "sparse" else value), name
            assert found[name].dtype == value.dtype
            assert found[name].requires_grad == value.requires_grad
            assert type(found[name]) is type(value)


def test_views_of_one_memory_stay_so(torch, chunks):
    whole = torch.rand(200_000)
    data, size = stored(chunks, [whole, whole[10:20], whole.view(400, 500)])
    assert size < 1.1 * whole.nbytes
    first, part, table = loads(data, chunks)
    first[10] = 7
    assert part[0] == 7
    assert table[0, 10] == 7
    first.resize_(300_000)


def test_a_module_and_its_optimizer_come_back(torch, chunks):
    model = torch.nn.Linear(300, 300)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(2, 300)).sum().backward()
    optimizer.step()
    data, _ = stored(chunks, (model, optimizer))
    again, stepper = loads(data, chunks)
    assert stepper.param_groups[0]["params"][0] is again.weight
    assert torch.equal(again.weight, model.weight)
