import asyncio

from scenario import Guard, forever, result, scenario, turns


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


@scenario
async def call_later_orders(t):
    loop = asyncio.get_running_loop()
    for delay, name in ((30, "third"), (10, "first"), (20, "second"), (10, "first again")):
        loop.call_later(delay, t.at, name)
    await asyncio.sleep(40)
    t.at("main")


@scenario
async def a_cancelled_timer_does_not_run(t):
    loop = asyncio.get_running_loop()
    timer = loop.call_later(10, t, "never")
    loop.call_later(5, timer.cancel)
    loop.call_later(10, t.at, "runs")
    await asyncio.sleep(20)
    t(timer.cancelled())


@scenario
async def a_timer_of_a_timer(t):
    loop = asyncio.get_running_loop()
    def first():
        t.at("first")
        loop.call_later(10, t.at, "second")
    loop.call_later(10, first)
    await asyncio.sleep(30)
    t.at("main")


@scenario
async def tasks_of_a_callback(t):
    async def job():
        t("task")
    def callback():
        t("callback")
        asyncio.create_task(job())
        t("created")
    asyncio.get_running_loop().call_soon(callback)
    await turns(3)
    t("main")


@scenario
async def a_done_callback_of_a_done_task(t):
    async def job():
        t("job")
    task = asyncio.create_task(job())
    await turns(2)
    task.add_done_callback(lambda _: t("callback"))
    t("added")
    await turns(2)


@scenario
async def a_done_callback_of_a_cancelled_task(t):
    task = asyncio.create_task(forever())
    task.add_done_callback(lambda task: t(task.cancelled()))
    await turns(1)
    task.cancel()
    t("asked")
    await turns(3)


@scenario
async def a_future_wakes_two_turns_of_tasks(t):
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    async def relay():
        t(await first)
        second.set_result("second")
        t("relayed")
    async def last():
        t(await second)
    tasks = [asyncio.create_task(job) for job in (last(), relay())]
    await turns(1)
    first.set_result("first")
    t("set")
    for task in tasks:
        await task


@scenario
async def a_cancelled_future(t):
    future = asyncio.get_running_loop().create_future()
    async def job():
        await future
    task = asyncio.create_task(job())
    await turns(1)
    t(future.cancel())
    t(future.cancel())
    t(await result(task))
    t(future.done())


@scenario
async def callbacks_of_a_future(t):
    future = asyncio.get_running_loop().create_future()
    for name in ("one", "two"):
        future.add_done_callback(lambda _, name=name: t(name))
    future.set_result(None)
    t("set")
    await turns(1)
    t("main")


@scenario
async def yields_take_turns(t):
    async def job(name):
        for n in range(3):
            t(f"{name} {n}")
            await turns(1)
    for task in [asyncio.create_task(job(name)) for name in "abc"]:
        await task


@scenario
async def sleeps_of_one_instant(t):
    async def job(n):
        await asyncio.sleep(10 * n)
        t.at(f"{n} once")
        await asyncio.sleep(10 * (4 - n))
        t.at(f"{n} twice")
    await asyncio.gather(*(asyncio.create_task(job(n)) for n in (3, 1, 2)))


@scenario
async def sleeps_that_do_not_sleep(t):
    async def other():
        t("other")
    task = asyncio.create_task(other())
    await asyncio.sleep(0)
    t("main")
    await task


@scenario
async def a_failed_task_is_awaited_late(t):
    async def job():
        raise ValueError("bad")
    task = asyncio.create_task(job())
    await turns(2)
    t(task.done())
    t(await result(task))


if hasattr(asyncio, "eager_task_factory"):
    def eager(coroutine):
        return asyncio.Task(coroutine, loop=asyncio.get_running_loop(), eager_start=True)

    @scenario
    async def an_eager_task_runs_to_its_first_wait(t):
        async def job():
            t("begins")
            await turns(1)
            t("goes on")
        task = eager(job())
        t(task.done())
        await task
        t("main")

    @scenario
    async def an_eager_task_that_need_not_wait(t):
        async def job():
            t("job")
            return 7
        task = eager(job())
        t(task.done())
        t(await task)

    @scenario
    async def an_eager_task_is_cancelled(t):
        async def job():
            with Guard(t, "eager"):
                await forever()
        task = eager(job())
        task.cancel()
        t("asked")
        t(await result(task))

    @scenario
    async def eager_tasks_of_an_eager_task(t):
        async def inner(n):
            t(f"inner {n}")
            await turns(n)
            t(f"inner {n} ends")
        async def outer():
            tasks = [eager(inner(n)) for n in (2, 0, 1)]
            t("made")
            for task in tasks:
                await task
            t("outer ends")
        task = eager(outer())
        t("main")
        await task
