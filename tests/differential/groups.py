import asyncio

from exact import Group
from scenario import result, scenario, turns


@scenario
async def a_group_waits_for_all(t):
    async def job(n):
        await turns(n)
        t(n)
    async with Group() as group:
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
        async with Group() as group:
            group.create_task(bad())
            group.create_task(good())
            try:
                await asyncio.Event().wait()
            finally:
                t("body dropped")
    except* ValueError as e:
        t(len(e.exceptions))
