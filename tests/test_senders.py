"""Names and numbers of messages: no two that send side by side share a name, and a repeat has the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ray_durable import operations
from ray_durable.compiler import durable
from ray_durable.runner import Coroutine, start
from ray_durable.senders import numbered

operations.install()


def test_threads_are_senders_of_their_own_whose_numbers_grow():
    with ThreadPoolExecutor(4) as pool:
        found = [each for many in pool.map(lambda _: [numbered() for _ in range(200)], range(8)) for each in many]
    assert len(set(found)) == len(found)
    by_sender: dict[str, list[int]] = {}
    for sender, number in found:
        by_sender.setdefault(sender, []).append(number)
    assert all(sorted(set(numbers)) == sorted(numbers) for numbers in by_sender.values())


def test_a_forked_process_is_another_sender(monkeypatch):
    before = numbered()[0]
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert numbered()[0] != before


@durable
def sender():
    found = [numbered(), numbered()]
    operations.yield_point()
    found.append(numbered())
    operations.yield_point()
    return found


def test_a_coroutine_that_is_run_again_sends_under_the_same_numbers():
    def run(coroutine):
        coroutine.main.step()
        coroutine.seq += 1
        coroutine.main.at, coroutine.main.derived = coroutine.seq, 0  # as a host does at a checkpoint
        coroutine.main.step()
        return coroutine.main.step()[1]

    first, second = (run(Coroutine("c").begin(start(sender, (), {}))) for _ in range(2))
    assert first == second
    assert {name for name, _ in first} == {"c/0"}
    assert [number for _, number in first] == sorted({number for _, number in first})
