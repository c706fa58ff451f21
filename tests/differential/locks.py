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


@scenario
async def a_newcomer_does_not_overtake(t):
    lock = asyncio.Lock()
    async def job(n):
        async with lock:
            t(f"{n} has it")
    await lock.acquire()
    task = asyncio.create_task(job(0))
    await turns(1)
    lock.release()
    await job(1)
    await task


@scenario
async def waiters_of_a_lock_leave_one_by_one(t):
    lock = asyncio.Lock()
    async def job(n):
        async with lock:
            t.at(f"{n} has it")
            await asyncio.sleep(20)
    tasks = [asyncio.create_task(job(n)) for n in range(4)]
    await asyncio.sleep(10)
    tasks[2].cancel()
    await asyncio.sleep(20)
    tasks[1].cancel()
    for task in tasks:
        t.at(await result(task))


@scenario
async def a_cancelled_waiter_of_an_event(t):
    event = asyncio.Event()
    async def job(n):
        await event.wait()
        t(n)
    tasks = [asyncio.create_task(job(n)) for n in range(3)]
    await turns(1)
    tasks[1].cancel()
    event.set()
    for task in tasks:
        t(await result(task))


@scenario
async def an_event_is_cleared_and_set_again(t):
    event = asyncio.Event()
    async def job(n):
        for _ in range(2):
            await event.wait()
            t.at(f"{n} woken")
            await asyncio.sleep(10 * n)
    tasks = [asyncio.create_task(job(n)) for n in (1, 2)]
    await asyncio.sleep(5)
    event.set()
    event.clear()
    await asyncio.sleep(12)
    event.set()
    t(event.is_set())
    for task in tasks:
        await task


@scenario
async def a_set_event_does_not_wait(t):
    event = asyncio.Event()
    event.set()
    async def other():
        t("other")
    task = asyncio.create_task(other())
    await event.wait()
    t("main")
    await task


@scenario
async def a_woken_waiter_of_a_semaphore_is_cancelled(t):
    semaphore = asyncio.Semaphore(1)
    async def job(n):
        async with semaphore:
            t(f"{n} in")
            await turns(1)
    await semaphore.acquire()
    tasks = [asyncio.create_task(job(n)) for n in range(3)]
    await turns(1)
    semaphore.release()
    tasks[0].cancel()
    for task in tasks:
        t(await result(task))
    t(semaphore.locked())


@scenario
async def permits_and_timeouts(t):
    semaphore = asyncio.Semaphore(2)
    async def job(n):
        try:
            async with asyncio.timeout(13 + n):
                async with semaphore:
                    t.at(f"{n} in")
                    await asyncio.sleep(10)
        except TimeoutError:
            t.at(f"{n} late")
    for task in [asyncio.create_task(job(n)) for n in range(5)]:
        await task
    t(semaphore.locked())


@scenario
async def a_lock_in_a_lock(t):
    outer, inner = asyncio.Lock(), asyncio.Lock()
    async def job(n):
        async with outer:
            async with inner:
                t(f"{n} has both")
                await turns(2)
            t(f"{n} has one")
        t(f"{n} has none")
    for task in [asyncio.create_task(job(n)) for n in range(3)]:
        await task
