import asyncio

from scenario import Guard, forever, result, scenario, sleeper, turns, waiter


@scenario
async def cancel_before_the_first_step(t):
    async def job():
        t("never")
    task = asyncio.create_task(job())
    t(task.cancel())
    t(await result(task))
    t(task.cancel())


@scenario
async def cancel_while_waiting(t):
    async def job():
        t("begun")
        await asyncio.Event().wait()
        t("never")
    task = asyncio.create_task(job())
    await turns(2)
    task.cancel()
    t(task.done())
    t(await result(task))
    t(task.cancelled())


@scenario
async def two_cancels_are_one(t):
    task = waiter(t, "task")
    await turns(1)
    t(task.cancel())
    t(task.cancel())
    t(await result(task))
    t(task.cancel())


@scenario
async def a_cancel_beats_a_wake(t):
    future = asyncio.get_running_loop().create_future()
    async def job():
        with Guard(t, "task"):
            t(await future)
    task = asyncio.create_task(job())
    await turns(1)
    future.set_result("value")
    t(task.cancel())
    t(await result(task))


@scenario
async def a_cancel_after_the_last_step(t):
    async def job():
        await turns(1)
        return "value"
    task = asyncio.create_task(job())
    await turns(3)
    t(task.cancel())
    t(await result(task))


@scenario
async def a_sleeper_is_cancelled(t):
    task = sleeper(t, "task", 50)
    await asyncio.sleep(10)
    task.cancel()
    t.at(await result(task))
    await asyncio.sleep(100)
    t.at("main")


@scenario
async def inner_blocks_end_first(t):
    async def inner():
        with Guard(t, "inner"):
            await forever()
    async def job():
        with Guard(t, "outer"):
            with Guard(t, "middle"):
                await inner()
    task = asyncio.create_task(job())
    await turns(1)
    task.cancel()
    t(await result(task))


@scenario
async def cancels_arrive_in_order(t):
    tasks = [waiter(t, name) for name in "abc"]
    await turns(1)
    for n in (1, 2, 0):
        tasks[n].cancel()
    t("asked")
    for task in tasks:
        t(await result(task))


@scenario
async def siblings_cancel_each_other(t):
    tasks = []
    async def job(n):
        with Guard(t, n):
            await turns(1)
            t(tasks[1 - n].cancel())
            await turns(1)
            t(f"{n} goes on")
    tasks += [asyncio.create_task(job(n)) for n in range(2)]
    for task in tasks:
        t(await result(task))


@scenario
async def a_cancelled_task_gives_its_lock_back(t):
    lock = asyncio.Lock()
    async def job():
        async with lock:
            t("has it")
            await forever()
    task = asyncio.create_task(job())
    await turns(1)
    t(lock.locked())
    task.cancel()
    await turns(1)
    t(lock.locked())
    t(await result(task))


@scenario
async def a_cancelled_task_gives_its_permit_on(t):
    semaphore = asyncio.Semaphore(1)
    async def job(n):
        async with semaphore:
            t(f"{n} has it")
            await forever()
    tasks = [asyncio.create_task(job(n)) for n in range(3)]
    await turns(1)
    for task in tasks:
        t(task.cancel())
        await turns(2)
    t(semaphore.locked())


@scenario
async def its_children_go_on(t):
    async def parent():
        sleeper(t, "child", 30)
        with Guard(t, "parent"):
            await forever()
    task = asyncio.create_task(parent())
    await asyncio.sleep(10)
    task.cancel()
    t.at(await result(task))
    await asyncio.sleep(50)


@scenario
async def a_cancel_of_a_task_that_makes_a_task(t):
    async def child():
        t("child")
    async def parent():
        with Guard(t, "parent"):
            await turns(1)
            asyncio.create_task(child())
            await turns(1)
            t("never")
    task = asyncio.create_task(parent())
    await turns(2)
    task.cancel()
    t(await result(task))
    await turns(1)
