"""Programs in asyncio's own words, each writing down what happens in which order.

They are undecorated: `asyncio.run` runs them as they stand, and durably they run through `run_program`. Whatever they
log depends on asyncio's promises only, never on how long a step takes.
"""

from __future__ import annotations

import asyncio

SHORT, LONG = 0.25, 120.0


async def settle(times=1):
    """Let all others come as far as they can: by turns, as time is short where hosts die at every yield."""
    for _ in range(6 * times):
        await asyncio.sleep(0)


async def gather_in_order(log):
    async def work(name, delay):
        await settle(delay)
        log.append(name)
        return name

    log.append(await asyncio.gather(work("slow", 2), work("fast", 0), work("mid", 1)))
    log.append(await asyncio.gather())
    same = work("same", 0)
    log.append(await asyncio.gather(same, same))


async def gather_is_eager(log):
    async def work(name):
        log.append(f"{name} runs")
        return name

    together = asyncio.gather(work("a"), work("b"))
    await settle()
    log.append("not awaited yet")
    log.append(await together)


async def gather_raises_the_first(log):
    async def fail():
        await asyncio.sleep(0)
        raise ValueError("one")

    async def go_on():
        await settle()
        log.append("went on")

    try:
        await asyncio.gather(go_on(), fail())
    except ValueError as error:
        log.append(repr(error))
    await settle(2)
    outcomes = await asyncio.gather(fail(), go_on(), return_exceptions=True)
    log.append([repr(outcome) for outcome in outcomes])


async def gather_cancelled(log):
    async def child(name):
        try:
            await asyncio.sleep(LONG)
        finally:
            log.append(f"{name} ends")

    async def parent():
        try:
            await asyncio.gather(child("a"), child("b"))
        except asyncio.CancelledError:
            log.append("parent cancelled")
            raise

    task = asyncio.create_task(parent())
    await settle()
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        log.append(task.cancelled())


async def tasks(log):
    async def work(n):
        await settle(n)
        if n == 2:
            raise KeyError(n)
        return n

    started = [asyncio.create_task(work(n), name=f"work {n}") for n in range(3)]
    log.append([task.get_name() for task in started])
    log.append([task.done() for task in started])
    log.append(await started[1])
    log.append(await started[1])
    log.append((started[0].result(), started[0].exception()))
    try:
        await started[2]
    except KeyError as error:
        log.append((repr(error), started[2].exception() is error))
    log.append([task.cancel() for task in started])


async def cancelling_a_chain(log):
    async def innermost():
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError as error:
            log.append(f"innermost {error.args}")
            await asyncio.sleep(0)
            raise

    async def middle():
        await inner
        log.append("unreachable")

    inner = asyncio.create_task(innermost())
    outer = asyncio.create_task(middle())
    await settle()
    outer.cancel("enough")
    for task in (outer, inner):
        try:
            await task
        except asyncio.CancelledError:
            log.append((task.cancelled(), task.cancelling()))


async def cancelled_before_it_began(log):
    async def never():
        log.append("began")

    task = asyncio.create_task(never())
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        log.append("never began")


async def swallowing_a_cancellation(log):
    async def stubborn():
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            log.append(asyncio.current_task().cancelling())
            asyncio.current_task().uncancel()
        await asyncio.sleep(0)
        return "stayed"

    task = asyncio.create_task(stubborn())
    await settle()
    task.cancel()
    log.append(await task)
    log.append((task.cancelled(), task.cancelling()))


async def done_callbacks(log):
    async def work():
        await asyncio.sleep(0)
        return "value"

    task = asyncio.create_task(work())
    task.add_done_callback(lambda done: log.append(("called", done.result())))
    removed = log.append
    task.add_done_callback(removed)
    log.append(task.remove_done_callback(removed))
    await task
    await settle()


async def a_group(log):
    async def work(n):
        await settle(n)
        log.append(n)
        return n

    async with asyncio.TaskGroup() as group:
        started = [group.create_task(work(n)) for n in (2, 0, 1)]
        log.append("body ends")
    log.append([task.result() for task in started])
    try:
        group.create_task(late := work(9))
    except RuntimeError:
        late.close()
        log.append("finished groups take no tasks")


async def a_failing_group(log):
    async def fail(error):
        await settle()
        raise error

    async def sibling(name):
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            log.append(f"{name} cancelled")
            raise

    async def bad_sibling():
        try:
            await asyncio.sleep(LONG)
        finally:
            raise OSError("while being cancelled")

    for body_s in (0.0, LONG):
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(sibling("a"))
                group.create_task(fail(ValueError("x")))
                group.create_task(bad_sibling())
                await asyncio.sleep(body_s)
                log.append("body ends")
        except* ValueError as found:
            log.append([repr(error) for error in found.exceptions])
        except* OSError as found:
            log.append([repr(error) for error in found.exceptions])


async def a_group_whose_body_fails(log):
    async def sibling():
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(sibling())
            await settle()
            raise ValueError("body")
    except* ValueError as found:
        log.append([repr(error) for error in found.exceptions])


async def a_group_cancelled_from_outside(log):
    async def child(name):
        try:
            await asyncio.sleep(LONG)
        finally:
            log.append(f"{name} ends")

    async def parent():
        async with asyncio.TaskGroup() as group:
            group.create_task(child("a"))

    task = asyncio.create_task(parent())
    await settle()
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        log.append("parent ends")


async def nested_groups(log):
    async def work(name, delay):
        await (settle() if name == "fails" else asyncio.sleep(delay))
        log.append(name)
        if name == "fails":
            raise ValueError(name)

    try:
        async with asyncio.TaskGroup() as outer:
            outer.create_task(work("outer", LONG))
            async with asyncio.TaskGroup() as inner:
                inner.create_task(work("inner", 0))
                inner.create_task(work("fails", 0))
    except* ValueError as found:
        log.append(found.exceptions[0].message)


async def timeouts(log):
    try:
        async with asyncio.timeout(SHORT) as limit:
            await asyncio.sleep(LONG)
    except TimeoutError:
        log.append(("late", limit.expired()))
    async with asyncio.timeout(LONG) as limit:
        await asyncio.sleep(0)
    log.append(("in time", limit.expired()))
    async with asyncio.timeout(None) as limit:
        log.append(limit.when())
        limit.reschedule(asyncio.get_running_loop().time() + LONG)
        log.append(abs(limit.when() - asyncio.get_running_loop().time() - LONG) < 1)
        limit.reschedule(None)
    try:
        async with asyncio.timeout_at(asyncio.get_running_loop().time() - 1):
            await asyncio.sleep(LONG)
    except TimeoutError as error:
        log.append(repr(error.__cause__))
    try:
        limit.reschedule(None)
    except RuntimeError:
        log.append("finished")
    log.append(asyncio.current_task().cancelling())


async def nested_timeouts(log):
    try:
        async with asyncio.timeout(SHORT):
            try:
                async with asyncio.timeout(LONG):
                    await asyncio.sleep(LONG)
            except TimeoutError:
                log.append("inner is not the one")
    except TimeoutError:
        log.append("outer")
    try:
        async with asyncio.timeout(LONG):
            try:
                async with asyncio.timeout(SHORT):
                    await asyncio.sleep(LONG)
            except TimeoutError:
                log.append("inner")
            await asyncio.sleep(0)
            log.append("outer goes on")
    except TimeoutError:
        log.append("outer is not the one")


async def a_timeout_around_a_group(log):
    async def child(name):
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            log.append(f"{name} cancelled")
            raise

    try:
        async with asyncio.timeout(8 * SHORT):
            async with asyncio.TaskGroup() as group:
                group.create_task(child("a"))
    except TimeoutError:
        log.append("late")


async def an_error_in_a_timeout(log):
    try:
        async with asyncio.timeout(LONG):
            await asyncio.sleep(0)
            raise ValueError("mine")
    except ValueError as error:
        log.append(repr(error))


async def wait_for(log):
    async def work(delay):
        try:
            await asyncio.sleep(delay)
        except asyncio.CancelledError:
            log.append("cancelled")
            raise
        return "value"

    log.append(await asyncio.wait_for(work(0), LONG))
    log.append(await asyncio.wait_for(work(0), None))
    for limit in (SHORT, 0, -1):
        try:
            await asyncio.wait_for(work(LONG), limit)
        except TimeoutError:
            log.append("late")


async def wait(log):
    gate = asyncio.Event()

    async def work(n):
        if n > 1:
            await gate.wait()
        await asyncio.sleep(0 if n < 100 else LONG)
        if n == 1:
            raise ValueError(n)
        return n

    started = {asyncio.create_task(work(n)) for n in (0, 3, 6)}
    done, pending = await asyncio.wait(started, return_when=asyncio.FIRST_COMPLETED)
    log.append((sorted(task.result() for task in done), len(pending)))
    done, pending = await asyncio.wait(pending, timeout=0)
    log.append((len(done), len(pending)))
    gate.set()
    done, pending = await asyncio.wait(pending)
    log.append((sorted(task.result() for task in done), len(pending)))
    failing = [asyncio.create_task(work(n)) for n in (0, 1, 900)]
    done, pending = await asyncio.wait(failing, return_when=asyncio.FIRST_EXCEPTION)
    log.append((len(done), len(pending), [repr(task.exception()) for task in failing[:2]]))
    failing[2].cancel()
    try:
        await asyncio.wait([])
    except ValueError:
        log.append("nothing to wait for")


async def as_completed(log):
    async def work(n):
        await (settle(n) if n < 100 else asyncio.sleep(LONG))
        return n

    for following in asyncio.as_completed([work(2), work(0), work(1)]):
        log.append(await following)
    try:
        for following in asyncio.as_completed([work(0), work(900)], timeout=12 * SHORT):
            log.append(await following)
    except TimeoutError:
        log.append("late")


async def shielded(log):
    gate = asyncio.Event()

    async def work():
        await gate.wait()
        log.append("went on")
        return "value"

    inner = asyncio.create_task(work())
    try:
        async with asyncio.timeout(SHORT):
            await asyncio.shield(inner)
    except TimeoutError:
        log.append("late")
    gate.set()
    log.append(await inner)


PROGRAMS = [
    gather_in_order, gather_is_eager, gather_raises_the_first, gather_cancelled, tasks, cancelling_a_chain,
    cancelled_before_it_began, swallowing_a_cancellation, done_callbacks, a_group, a_failing_group,
    a_group_whose_body_fails, a_group_cancelled_from_outside, nested_groups, timeouts, nested_timeouts,
    a_timeout_around_a_group, an_error_in_a_timeout, wait_for, wait, as_completed, shielded,
]  # fmt: skip
