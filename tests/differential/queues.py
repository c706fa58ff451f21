import asyncio

from scenario import Guard, result, scenario, turns


@scenario
async def a_queue_between_two(t):
    queue = asyncio.Queue(2)
    async def producer():
        for n in range(5):
            await queue.put(n)
            t(f"put {n}")
    async def consumer():
        for _ in range(5):
            t(f"got {await queue.get()}")
    await asyncio.gather(asyncio.create_task(producer()), asyncio.create_task(consumer()))
    t(queue.qsize())


@scenario
async def getters_are_served_in_order(t):
    queue = asyncio.Queue()
    async def job(n):
        t(f"{n} got {await queue.get()}")
    tasks = [asyncio.create_task(job(n)) for n in range(3)]
    await turns(1)
    for n in range(3):
        queue.put_nowait(n)
    for task in tasks:
        await task


@scenario
async def a_woken_getter_is_cancelled(t):
    queue = asyncio.Queue()
    async def job(n):
        t(f"{n} got {await queue.get()}")
    tasks = [asyncio.create_task(job(n)) for n in range(2)]
    await turns(1)
    queue.put_nowait("x")
    tasks[0].cancel()
    for task in tasks:
        t(await result(task))
    t(queue.qsize())


@scenario
async def queue_errors(t):
    queue = asyncio.Queue(1)
    try:
        queue.get_nowait()
    except asyncio.QueueEmpty:
        t("empty")
    queue.put_nowait(1)
    try:
        queue.put_nowait(2)
    except asyncio.QueueFull:
        t("full")
    queue.task_done()
    try:
        queue.task_done()
    except ValueError:
        t("too often")


@scenario
async def lifo_and_priority(t):
    lifo, priority = asyncio.LifoQueue(), asyncio.PriorityQueue()
    for n in (3, 1, 2):
        lifo.put_nowait(n)
        priority.put_nowait(n)
    t([await lifo.get() for _ in range(3)])
    t([await priority.get() for _ in range(3)])


@scenario
async def join_waits_for_the_last(t):
    queue = asyncio.Queue()
    for n in range(3):
        queue.put_nowait(n)
    async def worker():
        while not queue.empty():
            n = await queue.get()
            await turns(1)
            t(f"done {n}")
            queue.task_done()
    task = asyncio.create_task(worker())
    await queue.join()
    t("joined")
    await task


@scenario
async def putters_are_served_in_order(t):
    queue = asyncio.Queue(1)
    async def job(n):
        await queue.put(n)
        t(f"put {n}")
    tasks = [asyncio.create_task(job(n)) for n in range(4)]
    await turns(2)
    for _ in range(4):
        t(f"got {await queue.get()}")
        await turns(2)
    t(queue.empty())


@scenario
async def a_cancelled_putter(t):
    queue = asyncio.Queue(1)
    async def job(n):
        await queue.put(n)
        t(f"put {n}")
    tasks = [asyncio.create_task(job(n)) for n in range(3)]
    await turns(1)
    tasks[1].cancel()
    t(await result(tasks[1]))
    t(await queue.get())
    t(await queue.get())
    t(queue.qsize())


@scenario
async def a_woken_putter_is_cancelled(t):
    queue = asyncio.Queue(1)
    async def job(n):
        await queue.put(n)
        t(f"put {n}")
    tasks = [asyncio.create_task(job(n)) for n in range(3)]
    await turns(1)
    t(queue.get_nowait())
    tasks[1].cancel()
    for task in tasks:
        t(await result(task))
    t(queue.get_nowait())


@scenario
async def a_full_queue_and_timeouts(t):
    queue = asyncio.Queue(1)
    async def producer():
        for n in range(3):
            try:
                async with asyncio.timeout(15):
                    await queue.put(n)
                t.at(f"put {n}")
            except TimeoutError:
                t.at(f"late {n}")
    task = asyncio.create_task(producer())
    await asyncio.sleep(20)
    t.at(f"got {await queue.get()}")
    await asyncio.sleep(20)
    t.at(f"got {await queue.get()}")
    await task


@scenario
async def a_join_is_cancelled(t):
    queue = asyncio.Queue()
    queue.put_nowait(1)
    async def job():
        with Guard(t, "join"):
            await queue.join()
    tasks = [asyncio.create_task(job()) for _ in range(2)]
    await turns(1)
    tasks[0].cancel()
    t(await result(tasks[0]))
    queue.get_nowait()
    queue.task_done()
    t(await result(tasks[1]))


@scenario
async def workers_of_a_queue(t):
    queue = asyncio.Queue()
    async def worker(name):
        with Guard(t, name):
            while True:
                n = await queue.get()
                await asyncio.sleep(n)
                t.at(f"{name} did {n}")
                queue.task_done()
    for n in (30, 10, 20, 25):
        queue.put_nowait(n)
    workers = [asyncio.create_task(worker(name)) for name in "ab"]
    await queue.join()
    t.at("joined")
    for worker in workers:
        worker.cancel()
    for worker in workers:
        t(await result(worker))


@scenario
async def urgent_items_first(t):
    queue = asyncio.PriorityQueue(2)
    async def producer():
        for n in (5, 3, 4, 1):
            await queue.put(n)
            t(f"put {n}")
    task = asyncio.create_task(producer())
    await turns(1)
    for _ in range(4):
        t(f"got {await queue.get()}")
        await turns(1)
    await task
