import asyncio

from scenario import result, scenario, turns


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
