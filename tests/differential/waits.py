import asyncio

from scenario import result, scenario, turns


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
