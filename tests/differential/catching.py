"""Cancels that are caught, and what ends by awaiting."""
import asyncio

from exact import Group
from scenario import Guard, forever, result, scenario, sleep_in_guard, sleeper, turns, waiter


async def cancelled_at(t, duration, coroutine):
    """Cancels a task of this after so many milliseconds, and tells how it ends."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(duration)
    t.at(f"cancel: {show(task.cancel())}")
    t.at(await result(task))


def show(value):
    return str(value).lower()


async def timed(t, duration, awaitable):
    try:
        async with asyncio.timeout(duration):
            value = await awaitable
        t.at(f"value {value}")
    except TimeoutError:
        t.at("timeout")


async def caught(t, name, body, handler=None, resumes=False):
    try:
        return await body
    except asyncio.CancelledError:
        t.at(f"{name} caught")
        if handler is not None:
            await handler
            t.at(f"{name} handled")
        if resumes:
            raise
        return f"{name} caught it"
    finally:
        if handler is not None:
            handler.close()


async def cleaned(t, name, body, duration):
    """Its cleanup is not cancelled here: not by a second cancel either, which ends it in asyncio."""
    try:
        await body
    except asyncio.CancelledError:
        cleanup = asyncio.create_task(asyncio.sleep(duration))
        while not cleanup.done():
            try:
                await asyncio.wait([cleanup])
            except asyncio.CancelledError:
                pass
        t.at(f"{name} cleaned")
        raise


@scenario
async def a_cancel_is_caught(t):
    await cancelled_at(t, 10, caught(t, "task", forever()))


@scenario
async def a_cancel_is_caught_by_a_long_handler(t):
    await cancelled_at(t, 10, caught(t, "task", forever(), asyncio.sleep(20)))


@scenario
async def a_cancel_is_resumed(t):
    await cancelled_at(t, 10, caught(t, "task", forever(), asyncio.sleep(20), resumes=True))


@scenario
async def a_task_goes_on_after_a_cancel(t):
    async def job():
        t(await caught(t, "first", forever()))
        t(await caught(t, "second", sleep_in_guard(t, "body", 20)))
        return "the end"
    await cancelled_at(t, 10, job())


@scenario
async def nested_scopes_inner_first(t):
    inner = caught(t, "inner", forever(), asyncio.sleep(10), resumes=True)
    await cancelled_at(t, 10, caught(t, "outer", inner, asyncio.sleep(10)))


@scenario
async def only_the_inner_scope_catches(t):
    async def body():
        t(await caught(t, "inner", forever()))
        await asyncio.sleep(10)
        return "body over"
    await cancelled_at(t, 10, caught(t, "outer", body()))


@scenario
async def a_second_cancel_goes_to_the_outer_scope(t):
    inner = caught(t, "inner", forever(), forever())
    task = asyncio.create_task(caught(t, "outer", inner))
    for _ in range(2):
        await asyncio.sleep(10)
        t.at(task.cancel())
    t.at(await result(task))


@scenario
async def a_second_cancel_ends_a_handler(t):
    task = asyncio.create_task(caught(t, "task", forever(), wait_for_good(t)))
    for _ in range(2):
        await asyncio.sleep(10)
        t.at(task.cancel())
    t.at(await result(task))


async def wait_for_good(t):
    with Guard(t, "handler"):
        await forever()


@scenario
async def a_scope_that_is_over_catches_nothing(t):
    async def job():
        t(await caught(t, "scope", asyncio.sleep(5, "value")))
        await forever()
    await cancelled_at(t, 10, job())


@scenario
async def a_caught_timeout_is_a_value(t):
    await timed(t, 10, caught(t, "body", forever(), asyncio.sleep(20)))


@scenario
async def a_resumed_timeout_is_a_timeout(t):
    await timed(t, 10, caught(t, "body", forever(), asyncio.sleep(20), resumes=True))


@scenario
async def a_child_catches_the_failure_of_a_sibling(t):
    async def bad():
        await asyncio.sleep(10)
        raise ValueError("bad")
    async def good():
        await caught(t, "child", forever(), asyncio.sleep(10))
    try:
        async with Group() as group:
            group.create_task(bad())
            group.create_task(good())
    except ExceptionGroup as e:
        t.at(f"failed with {e.exceptions[0]}")


@scenario
async def a_cancel_passes_through_an_awaited_task(t):
    async def job():
        with Guard(t, "outer"):
            await waiter(t, "inner")
    await cancelled_at(t, 10, job())


@scenario
async def a_cancel_passes_through_three_tasks(t):
    async def job(n):
        with Guard(t, n):
            await (asyncio.create_task(job(n + 1)) if n < 3 else forever())
    await cancelled_at(t, 10, job(1))


@scenario
async def an_awaited_task_catches_the_cancel(t):
    async def job():
        task = asyncio.create_task(caught(t, "inner", forever(), asyncio.sleep(10)))
        t(await task)
        await asyncio.sleep(10)
        return "goes on"
    await cancelled_at(t, 10, job())


@scenario
async def a_cancelled_gather_cancels_its_tasks(t):
    async def job():
        await asyncio.gather(*(sleeper(t, n, n) for n in (5, 20, 30)))
    await cancelled_at(t, 10, job())


@scenario
async def a_timeout_cancels_the_awaited_task(t):
    task = waiter(t, "task")
    await timed(t, 10, task)
    await asyncio.sleep(5)
    t(task.done())


@scenario
async def a_shield_under_a_cancel(t):
    async def job(task):
        with Guard(t, "outer"):
            await asyncio.shield(task)
    await cancelled_at(t, 10, job(sleeper(t, "inner", 20)))
    await asyncio.sleep(20)


@scenario
async def a_timeout_waits_for_a_cleanup(t):
    await timed(t, 10, cleaned(t, "body", forever(), 20))


@scenario
async def nested_cleanups_inner_first(t):
    await cancelled_at(t, 10, cleaned(t, "outer", cleaned(t, "inner", forever(), 20), 10))


@scenario
async def a_group_waits_for_the_cleanups_of_its_children(t):
    async def bad():
        await asyncio.sleep(10)
        raise ValueError("bad")
    try:
        async with Group() as group:
            for n in (30, 20):
                group.create_task(cleaned(t, n, forever(), n))
            group.create_task(bad())
    except ExceptionGroup as e:
        t.at(f"failed with {e.exceptions[0]}")


@scenario
async def who_cancels_waits_for_the_cleanup(t):
    await cancelled_at(t, 10, cleaned(t, "task", forever(), 20))
    await timed(t, 10, timed(t, 50, cleaned(t, "body", forever(), 20)))


@scenario
async def siblings_fail_in_one_turn(t):
    async def bad(n, turn):
        await turns(turn)
        raise ValueError(n)
    for late in (1, 3):
        try:
            async with Group() as group:
                for n, turn in ((1, 1), (2, late), (3, 1)):
                    group.create_task(bad(n, turn))
        except ExceptionGroup as e:
            t(f"failed with {', '.join(map(str, e.exceptions))}")


@scenario
async def cancels_are_counted(t):
    task = asyncio.create_task(caught(t, "task", forever(), asyncio.sleep(20)))
    await asyncio.sleep(10)
    t(task.cancelling())
    task.cancel()
    t(task.cancelling())
    await asyncio.sleep(10)
    t(task.uncancel())
    t(task.uncancel())
    t.at(await result(task))


@scenario
async def a_cancel_is_taken_once(t):
    async def value():
        await turns(2)
        return "value"
    async def job():
        t(await caught(t, "scope", forever()))
        t(await asyncio.create_task(value()))
        return "goes on"
    await cancelled_at(t, 10, job())


@scenario
async def a_cancel_beats_the_end_of_an_awaited_task(t):
    future = asyncio.get_running_loop().create_future()
    async def inner():
        return await future
    async def outer():
        return await asyncio.create_task(inner())
    task = asyncio.create_task(outer())
    await turns(2)
    future.set_result("value")
    await turns(1)
    t(task.cancel())
    t(await result(task))


@scenario
async def a_resumed_task_ends_at_once(t):
    async def child():
        await turns(1)
        t("child")
    async def handler():
        asyncio.create_task(child())
    await cancelled_at(t, 10, caught(t, "task", forever(), handler(), resumes=True))
    await turns(1)


@scenario
async def a_cancel_while_a_timeout_is_handled(t):
    async def job():
        await timed(t, 10, caught(t, "body", forever(), asyncio.sleep(50), resumes=True))
    await cancelled_at(t, 20, job())


@scenario
async def an_inner_timeout_while_an_outer_is_handled(t):
    inner = timed(t, 20, caught(t, "body", forever(), asyncio.sleep(50), resumes=True))
    await timed(t, 10, inner)


@scenario
async def a_cancel_after_a_caught_timeout(t):
    async def body():
        t(await caught(t, "inner", forever()))
        await forever()
    await cancelled_at(t, 20, timed(t, 10, caught(t, "outer", body(), resumes=True)))


@scenario
async def a_cancelled_group_waits_for_a_cleanup_that_has_begun(t):
    async def job():
        async with Group() as group:
            child = group.create_task(cleaned(t, "child", forever(), 30))
            asyncio.get_running_loop().call_later(10, child.cancel)
    await cancelled_at(t, 20, job())


@scenario
async def a_failed_group_is_cancelled_while_a_child_handles(t):
    async def bad():
        await asyncio.sleep(10)
        raise ValueError("bad")
    async def job():
        async with Group() as group:
            group.create_task(caught(t, "child", forever(), asyncio.sleep(30)))
            group.create_task(bad())
    task = asyncio.create_task(job())
    await asyncio.sleep(20)
    t.at(task.cancel())
    await result(task)
    t.at("over")


@scenario
async def the_children_of_a_cancelled_group_are_done(t):
    tasks = []
    async def body():
        async with Group() as group:
            tasks.append(group.create_task(forever()))
    await timed(t, 10, body())
    t(tasks[0].done())
