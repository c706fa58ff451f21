import asyncio

from scenario import Guard, result, scenario, sleeper, turns, waiter


@scenario
async def gather_keeps_the_order_of_the_arguments(t):
    async def job(n, value):
        await turns(n)
        t(f"end {value}")
        return value
    t(await asyncio.gather(job(3, 1), job(1, 2), job(2, 3)))


@scenario
async def gather_of_what_is_ready(t):
    async def job(value):
        return value
    t(await asyncio.gather(job(1), job(2)))


@scenario
async def shield_outlives_its_waiter(t):
    async def inner():
        await turns(4)
        t("inner ended")
    async def outer(task):
        await asyncio.shield(task)
        t("never")
    task = asyncio.create_task(inner())
    waiter = asyncio.create_task(outer(task))
    await turns(2)
    waiter.cancel()
    t(await result(waiter))
    await task


@scenario
async def wait_for_the_first(t):
    async def job(n):
        await turns(n)
        return n
    tasks = [asyncio.create_task(job(n)) for n in (5, 1, 9)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    t(len(done))
    t(len(pending))
    t([task.done() for task in tasks])


@scenario
async def wait_for_all(t):
    async def job(n):
        await turns(n)
        t(n)
    done, pending = await asyncio.wait([asyncio.create_task(job(n)) for n in (3, 1, 2)])
    t(len(done))
    t(len(pending))


@scenario
async def wait_for_the_first_exception(t):
    async def job(n, fails):
        await asyncio.sleep(n)
        if fails:
            raise ValueError(n)
    tasks = [asyncio.create_task(job(*args)) for args in ((10, False), (20, True), (30, False))]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    t.at([task.done() for task in tasks])
    done, pending = await asyncio.wait(pending)
    t.at(len(done))


@scenario
async def wait_until_a_timeout(t):
    tasks = [sleeper(t, n, n) for n in (10, 30)]
    done, pending = await asyncio.wait(tasks, timeout=20)
    t.at([task.done() for task in tasks])
    done, pending = await asyncio.wait(tasks, timeout=20)
    t.at(len(pending))


@scenario
async def a_cancelled_wait_cancels_nothing(t):
    tasks = [sleeper(t, n, n) for n in (20, 30)]
    async def job():
        with Guard(t, "waiter"):
            await asyncio.wait(tasks)
    task = asyncio.create_task(job())
    await asyncio.sleep(10)
    task.cancel()
    t.at(await result(task))
    await asyncio.sleep(50)


@scenario
async def as_completed_in_the_order_of_their_ends(t):
    async def job(n):
        await asyncio.sleep(n)
        return n
    for next_one in asyncio.as_completed([job(n) for n in (30, 10, 20)]):
        t.at(await next_one)


@scenario
async def gather_of_one_that_fails(t):
    async def job(n):
        await asyncio.sleep(n)
        if n == 20:
            raise ValueError(n)
        return n
    outcomes = await asyncio.gather(job(10), job(20), job(30), return_exceptions=True)
    t.at(["failed" if isinstance(outcome, ValueError) else outcome for outcome in outcomes])


@scenario
async def siblings_of_one_that_fails_go_on(t):
    async def job(n, fails):
        with Guard(t, n):
            await asyncio.sleep(n)
        t.at(n)
        if fails:
            raise ValueError(n)
    tasks = [asyncio.create_task(job(*args)) for args in ((10, False), (20, True), (30, False))]
    try:
        await asyncio.gather(*tasks)
    except ValueError as e:
        t.at(f"failed {e}")
    await asyncio.sleep(20)
    t.at([task.done() for task in tasks])


@scenario
async def gathers_in_a_gather(t):
    async def job(n):
        await turns(n)
        t(n)
        return n
    async def gathered(*numbers):
        return await asyncio.gather(*map(job, numbers))
    t(await asyncio.gather(gathered(4, 1), gathered(3, 2)))


@scenario
async def shield_of_a_done_task(t):
    async def job():
        return 7
    task = asyncio.create_task(job())
    await turns(2)
    t(await asyncio.shield(task))


@scenario
async def the_task_in_a_shield_is_cancelled(t):
    task = waiter(t, "inner")
    async def job():
        return await result(asyncio.shield(task))
    outer = asyncio.create_task(job())
    await turns(2)
    task.cancel()
    t(await outer)


@scenario
async def shields_under_a_timeout(t):
    task = sleeper(t, "task", 30)
    for duration in (10, 10, 20):
        try:
            async with asyncio.timeout(duration):
                await asyncio.shield(task)
            t.at("value")
        except TimeoutError:
            t.at("timeout")


@scenario
async def a_shield_is_left_and_its_task_awaited(t):
    task = sleeper(t, "inner", 30)
    async def job():
        with Guard(t, "outer"):
            await asyncio.shield(task)
    outer = asyncio.create_task(job())
    await asyncio.sleep(10)
    outer.cancel()
    t.at(await result(outer))
    await asyncio.sleep(30)
    t.at(task.done())
