import asyncio

from scenario import result, scenario, turns


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
async def sleeps_end_in_their_order(t):
    async def job(n):
        await asyncio.sleep(n * 50)
        t(n)
    await asyncio.gather(*(asyncio.create_task(job(n)) for n in (3, 1, 2)))
