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
