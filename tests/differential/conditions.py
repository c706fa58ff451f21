import asyncio

from scenario import result, scenario, turns


@scenario
async def a_condition_lets_them_go_one_by_one(t):
    condition = asyncio.Condition()
    async def job(n):
        async with condition:
            await condition.wait()
            t(f"{n} woken")
            await turns(1)
        t(f"{n} left")
    tasks = [asyncio.create_task(job(n)) for n in range(3)]
    await turns(1)
    async with condition:
        condition.notify(2)
        t("notified")
    await turns(6)
    t([task.done() for task in tasks])
    async with condition:
        condition.notify_all()
    await tasks[2]


@scenario
async def a_condition_with_a_predicate(t):
    condition = asyncio.Condition()
    state = [0]
    async def job():
        async with condition:
            await condition.wait_for(lambda: state[0] >= 2)
            t(state[0])
    task = asyncio.create_task(job())
    for n in (1, 2):
        await turns(3)
        t(task.done())
        async with condition:
            state[0] = n
            condition.notify(1)
    await task


@scenario
async def a_barrier_of_three(t):
    barrier = asyncio.Barrier(3)
    async def job(n):
        place = await barrier.wait()
        t(f"{n} at {place}")
    await asyncio.gather(*(asyncio.create_task(job(n)) for n in range(3)))
    t(barrier.n_waiting)


def waiters(t, condition, names):
    async def job(name):
        async with condition:
            await condition.wait()
            t(f"{name} woken")
    return [asyncio.create_task(job(name)) for name in names]


@scenario
async def a_cancelled_waiter_of_a_condition(t):
    condition = asyncio.Condition()
    state = [False]
    async def job(name):
        async with condition:
            await condition.wait_for(lambda: state[0])
            t(f"{name} woken")
    # CPython 3.13 wakes another in the place of one that is cancelled, for nothing: the predicate hides it.
    tasks = [asyncio.create_task(job(name)) for name in "ab"]
    await turns(2)
    tasks[0].cancel()
    await turns(3)
    t(await result(tasks[0]))
    async with condition:
        state[0] = True
        condition.notify(1)
    t(await result(tasks[1]))


@scenario
async def a_notification_of_nobody_is_lost(t):
    condition = asyncio.Condition()
    async with condition:
        condition.notify_all()
    (task,) = waiters(t, condition, "a")
    await turns(3)
    t(task.done())
    async with condition:
        condition.notify(5)
    await task


@scenario
async def a_condition_under_a_timeout(t):
    condition = asyncio.Condition()
    async def job():
        try:
            async with asyncio.timeout(10):
                async with condition:
                    await condition.wait()
        except TimeoutError:
            t.at("timeout")
        t(condition.locked())
    await job()


@scenario
async def a_barrier_twice(t):
    barrier = asyncio.Barrier(2)
    async def job(n):
        for _ in range(2):
            await asyncio.sleep(10 * n)
            place = await barrier.wait()
            t.at(f"{n} at {place}")
    for task in [asyncio.create_task(job(n)) for n in (2, 1)]:
        await task
    t(barrier.n_waiting)


def at_barrier(t, barrier, names):
    async def job(name):
        try:
            place = await barrier.wait()
            t(f"{name} at {place}")
        except asyncio.BrokenBarrierError:
            t(f"{name} broken")
    return [asyncio.create_task(job(name)) for name in names]


@scenario
async def a_barrier_is_aborted(t):
    barrier = asyncio.Barrier(3)
    tasks = at_barrier(t, barrier, "ab")
    await turns(1)
    t(barrier.n_waiting)
    await barrier.abort()
    t(barrier.broken)
    for task in tasks + at_barrier(t, barrier, "c"):
        await task


@scenario
async def a_barrier_is_reset(t):
    barrier = asyncio.Barrier(2)
    tasks = at_barrier(t, barrier, "a")
    await turns(1)
    await barrier.reset()
    await turns(3)
    t(barrier.broken)
    for task in tasks + at_barrier(t, barrier, "bc"):
        await task


@scenario
async def one_at_a_barrier_is_cancelled(t):
    barrier = asyncio.Barrier(2)
    tasks = at_barrier(t, barrier, "a")
    await turns(1)
    tasks[0].cancel()
    t(await result(tasks[0]))
    t(barrier.n_waiting)
    for task in at_barrier(t, barrier, "cd"):
        await task
