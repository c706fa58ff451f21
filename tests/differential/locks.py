import asyncio

from scenario import result, scenario, turns


@scenario
async def locks_are_handed_on_in_order(t):
    lock = asyncio.Lock()
    async def job(n):
        async with lock:
            t(f"{n} has it")
            await turns(1)
        t(f"{n} gave it back")
    await asyncio.gather(*(asyncio.create_task(job(n)) for n in range(3)))
    t(lock.locked())


@scenario
async def a_cancelled_waiter_of_a_lock(t):
    lock = asyncio.Lock()
    async def job(n):
        async with lock:
            t(f"{n} has it")
    await lock.acquire()
    tasks = [asyncio.create_task(job(n)) for n in range(3)]
    await turns(1)
    tasks[0].cancel()
    lock.release()
    for task in tasks:
        t(await result(task))


@scenario
async def a_woken_waiter_of_a_lock_is_cancelled(t):
    lock = asyncio.Lock()
    async def job(n):
        async with lock:
            t(f"{n} has it")
    await lock.acquire()
    tasks = [asyncio.create_task(job(n)) for n in range(3)]
    await turns(1)
    lock.release()
    tasks[0].cancel()
    for task in tasks:
        t(await result(task))


@scenario
async def an_event_wakes_all_in_order(t):
    event = asyncio.Event()
    async def job(n):
        await event.wait()
        t(n)
    tasks = [asyncio.create_task(job(n)) for n in range(3)]
    await turns(1)
    late = asyncio.create_task(job(9))
    event.set()
    event.clear()
    await turns(2)
    t([task.done() for task in tasks])
    t(late.done())
    event.set()
    await late


@scenario
async def a_semaphore_of_two(t):
    semaphore = asyncio.Semaphore(2)
    async def job(n):
        async with semaphore:
            t(f"{n} in")
            await turns(2)
            t(f"{n} out")
    await asyncio.gather(*(asyncio.create_task(job(n)) for n in range(5)))
    t(semaphore.locked())


@scenario
async def a_released_permit_is_handed_over(t):
    semaphore = asyncio.Semaphore(0)
    async def job(n):
        await semaphore.acquire()
        t(n)
    tasks = [asyncio.create_task(job(n)) for n in range(3)]
    await turns(1)
    semaphore.release()
    t(semaphore.locked())
    semaphore.release()
    await turns(2)
    t([task.done() for task in tasks])
    semaphore.release()
    await tasks[2]


@scenario
async def a_bounded_semaphore_refuses(t):
    semaphore = asyncio.BoundedSemaphore(1)
    try:
        semaphore.release()
        t("released")
    except ValueError:
        t("refused")
