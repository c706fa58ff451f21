"""Scenarios for tests/differential.rs: each prints a trace, and the Rust one of the same name must print the same."""
import asyncio

SCENARIOS = {}


def scenario(f):
    SCENARIOS[f.__name__] = f
    return f


async def turns(n):
    for _ in range(n):
        await asyncio.sleep(0)


async def result(task):
    try:
        return await task
    except asyncio.CancelledError:
        return "cancelled"
    except Exception as e:
        return f"failed {e}"


@scenario
async def tasks_start_in_order(t):
    async def job(n):
        t(f"start {n}")
        await turns(1)
        t(f"end {n}")
    tasks = [asyncio.create_task(job(n)) for n in range(3)]
    t("created")
    for task in tasks:
        await task


@scenario
async def a_child_of_a_child_comes_last(t):
    async def grand():
        t("grandchild")
    async def child():
        t("child")
        task = asyncio.create_task(grand())
        await turns(1)
        t("child again")
        await task
    a = asyncio.create_task(child())
    async def other():
        t("other")
    b = asyncio.create_task(other())
    await a
    await b


@scenario
async def callbacks_and_tasks_share_the_queue(t):
    loop = asyncio.get_running_loop()
    async def job():
        t("task")
    loop.call_soon(t, "callback 1")
    task = asyncio.create_task(job())
    loop.call_soon(t, "callback 2")
    await task
    t("main")


@scenario
async def a_callback_of_a_callback_waits_a_turn(t):
    loop = asyncio.get_running_loop()
    def first():
        t("first")
        loop.call_soon(t, "inner")
    loop.call_soon(first)
    loop.call_soon(t, "second")
    await turns(3)
    t("main")


@scenario
async def a_cancelled_callback_does_not_run(t):
    loop = asyncio.get_running_loop()
    loop.call_soon(t, "runs")
    loop.call_soon(t, "never").cancel()
    await turns(2)


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
async def a_done_task_cannot_be_cancelled(t):
    async def job():
        return 7
    task = asyncio.create_task(job())
    await turns(2)
    t(task.cancel())
    t(await result(task))


@scenario
async def done_callbacks_come_in_order(t):
    async def job():
        t("job")
    task = asyncio.create_task(job())
    task.add_done_callback(lambda _: t("callback 1"))
    task.add_done_callback(lambda _: t("callback 2"))
    await turns(4)
    t("main")


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
async def a_group_waits_for_all(t):
    async def job(n):
        await turns(n)
        t(n)
    async with asyncio.TaskGroup() as group:
        for n in (3, 1, 2):
            group.create_task(job(n))
        t("body")
    t("after")


@scenario
async def a_group_fails_with_its_first_child(t):
    async def bad():
        await turns(1)
        raise ValueError("bad")
    async def good():
        try:
            await asyncio.Event().wait()
        finally:
            t("sibling dropped")
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(bad())
            group.create_task(good())
            try:
                await asyncio.Event().wait()
            finally:
                t("body dropped")
    except* ValueError as e:
        t(len(e.exceptions))


@scenario
async def a_future_is_set_once(t):
    future = asyncio.get_running_loop().create_future()
    async def job():
        t(await future)
    task = asyncio.create_task(job())
    await turns(1)
    future.set_result("set")
    t(future.done())
    try:
        future.set_result("again")
    except asyncio.InvalidStateError:
        t("invalid")
    await task


@scenario
async def a_timeout_that_is_not_needed(t):
    async with asyncio.timeout(60):
        await turns(2)
        t("in time")
    t(await asyncio.wait_for(asyncio.sleep(0, "value"), 60))


@scenario
async def timeouts_in_timeouts(t):
    try:
        async with asyncio.timeout(60):
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(60)
            except TimeoutError:
                t("inner")
            t("still here")
    except TimeoutError:
        t("never")


@scenario
async def sleeps_end_in_their_order(t):
    async def job(n):
        await asyncio.sleep(n * 0.05)
        t(n)
    await asyncio.gather(*(asyncio.create_task(job(n)) for n in (3, 1, 2)))


def show(value):
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(show(v) for v in value) + "]"
    if value is None:
        return "None"
    return str(value).lower() if isinstance(value, bool) else str(value)


for name, f in SCENARIOS.items():
    print("==", name)
    asyncio.run(f(lambda value: print(show(value))))
