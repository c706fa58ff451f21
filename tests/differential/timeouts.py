import asyncio

from scenario import result, scenario, turns


@scenario
async def a_timeout_that_is_not_needed(t):
    async with asyncio.timeout(60000):
        await turns(2)
        t("in time")
    t(await asyncio.wait_for(asyncio.sleep(0, "value"), 60000))


@scenario
async def timeouts_in_timeouts(t):
    try:
        async with asyncio.timeout(60000):
            try:
                async with asyncio.timeout(10):
                    await asyncio.sleep(60000)
            except TimeoutError:
                t("inner")
            t("still here")
    except TimeoutError:
        t("never")
