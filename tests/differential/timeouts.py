import asyncio

from exact import Group
from scenario import Guard, forever, result, scenario, sleep_in_guard, turns


@scenario
async def a_timeout_that_is_not_needed(t):
    async with asyncio.timeout(60000):
        await turns(2)
        t("in time")
    t(await asyncio.wait_for(asyncio.sleep(0, "value"), 60000))


@scenario
async def timeouts_in_timeouts(t):
    try:
        async with asyncio.timeout(60000):
            try:
                async with asyncio.timeout(10):
                    await asyncio.sleep(60000)
            except TimeoutError:
                t("inner")
            t("still here")
    except TimeoutError:
        t("never")


async def timed(t, duration, awaitable):
    try:
        async with asyncio.timeout(duration):
            value = await awaitable
        t.at(f"value {value}")
    except TimeoutError:
        t.at("timeout")


@scenario
async def a_timeout_drops_its_body(t):
    await timed(t, 10, sleep_in_guard(t, "body", 20))
    await timed(t, 20, sleep_in_guard(t, "body", 10))


@scenario
async def a_timeout_of_nothing(t):
    async def body(n):
        with Guard(t, "body"):
            t("begins")
            await turns(n)
        return n
    await timed(t, 0, body(0))
    await timed(t, 0, body(2))


@scenario
async def the_outer_timeout_comes_first(t):
    async def inner():
        with Guard(t, "inner"):
            await timed(t, 20, sleep_in_guard(t, "body", 30))
    await timed(t, 10, inner())


@scenario
async def three_timeouts_end_one_after_the_other(t):
    async def nested(n):
        with Guard(t, n):
            if n < 3:
                await timed(t, 40 - 10 * n, nested(n + 1))
            await forever()
    await timed(t, 40, nested(1))


@scenario
async def a_timeout_is_moved(t):
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(10) as deadline:
            await asyncio.sleep(5)
            deadline.reschedule(loop.time() + 20)
            await asyncio.sleep(15)
            t.at("still here")
            await asyncio.sleep(15)
            t("never")
    except TimeoutError:
        t.at("timeout")
    t(deadline.expired())


@scenario
async def a_timeout_is_taken_away(t):
    async with asyncio.timeout(10) as deadline:
        deadline.reschedule(None)
        t(deadline.when() is None)
        await asyncio.sleep(50)
        t.at("in time")
    t(deadline.expired())


@scenario
async def a_timeout_is_moved_into_the_past(t):
    try:
        async with asyncio.timeout(100) as deadline:
            await asyncio.sleep(20)
            deadline.reschedule(10)
            with Guard(t, "body"):
                await asyncio.sleep(20)
    except TimeoutError:
        t.at("timeout")


@scenario
async def an_error_leaves_a_timeout(t):
    async def body():
        await asyncio.sleep(10)
        raise ValueError("bad")
    try:
        await timed(t, 20, body())
    except ValueError as e:
        t.at(e)
    await asyncio.sleep(20)
    t.at("main")


@scenario
async def a_timeout_around_a_group(t):
    async def body():
        async with Group() as group:
            for n in (5, 20, 30):
                group.create_task(sleep_in_guard(t, n, n))
            with Guard(t, "body"):
                await forever()
    await timed(t, 10, body())


@scenario
async def a_timeout_in_a_child_of_a_group(t):
    async def child():
        await timed(t, 10, sleep_in_guard(t, "late", 20))
        await asyncio.sleep(10)
        t.at("child ends")
    async with Group() as group:
        group.create_task(child())
        group.create_task(sleep_in_guard(t, "sibling", 15))
    t.at("group over")


@scenario
async def a_cancel_in_a_timeout_is_a_cancel(t):
    async def body():
        await timed(t, 50, sleep_in_guard(t, "body", 30))
    task = asyncio.create_task(body())
    await asyncio.sleep(10)
    task.cancel()
    t.at(await result(task))


@scenario
async def timeouts_of_one_task_after_another(t):
    async def body():
        for duration in (30, 10, 20):
            await timed(t, 15, asyncio.sleep(duration))
    await timed(t, 35, body())


@scenario
async def a_lock_that_does_not_come_in_time(t):
    lock = asyncio.Lock()
    await lock.acquire()
    async def other():
        async with lock:
            t.at("other has it")
    async def give():
        await asyncio.sleep(20)
        lock.release()
    tasks = [asyncio.create_task(give())]
    async def late():
        with Guard(t, "late"):
            await lock.acquire()
    tasks.append(asyncio.create_task(timed(t, 10, late())))
    tasks.append(asyncio.create_task(other()))
    for task in tasks:
        await task
    t(lock.locked())


@scenario
async def an_item_that_does_not_come_in_time(t):
    queue = asyncio.Queue()
    await timed(t, 10, queue.get())
    queue.put_nowait("item")
    await timed(t, 10, queue.get())
    t(queue.qsize())
