import asyncio

from exact import Group
from scenario import Guard, forever, result, scenario, sleep_in_guard, turns


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


async def child(t, name, duration, fails=False):
    await sleep_in_guard(t, name, duration)
    if fails:
        raise ValueError(name)


async def grouped(t, name, body):
    """Tells how the group ends."""
    try:
        async with Group() as group:
            await body(group)
        t.at(f"{name} over")
    except ExceptionGroup as e:
        t.at(f"{name} failed with {', '.join(map(str, e.exceptions))}")


@scenario
async def a_failed_child_cancels_its_siblings(t):
    async def body(group):
        for name, duration, fails in (("slow", 30, False), ("bad", 20, True), ("quick", 10, False), ("late", 40, True)):
            group.create_task(child(t, name, duration, fails))
        with Guard(t, "body"):
            await forever()
    await grouped(t, "group", body)


@scenario
async def a_child_fails_after_the_body(t):
    async def body(group):
        group.create_task(child(t, "bad", 10, True))
        group.create_task(child(t, "slow", 20))
        t.at("body over")
    await grouped(t, "group", body)


@scenario
async def a_body_that_fails_cancels_the_children(t):
    async def body(group):
        group.create_task(child(t, "slow", 30))
        group.create_task(child(t, "quick", 10))
        await asyncio.sleep(20)
        raise ValueError("body")
    await grouped(t, "group", body)


@scenario
async def a_body_that_fails_at_once(t):
    async def body(group):
        group.create_task(child(t, "never begun", 10))
        raise ValueError("body")
    await grouped(t, "group", body)


@scenario
async def a_cancelled_child_is_no_failure(t):
    async def body(group):
        task = group.create_task(child(t, "cancelled", 20))
        group.create_task(child(t, "sibling", 30))
        await asyncio.sleep(10)
        t(task.cancel())
        t(await result(task))
    await grouped(t, "group", body)


@scenario
async def a_group_in_a_group_fails_alone(t):
    async def inner(group):
        group.create_task(child(t, "bad", 10, True))
        group.create_task(child(t, "inner", 20))
    async def outer(group):
        group.create_task(child(t, "outer", 15))
        await grouped(t, "inner group", inner)
        await asyncio.sleep(10)
        t.at("body goes on")
    await grouped(t, "outer group", outer)


@scenario
async def a_group_in_a_child_of_a_failed_group(t):
    async def inner(group):
        group.create_task(child(t, "grandchild", 40))
        group.create_task(child(t, "quick grandchild", 5))
        with Guard(t, "inner body"):
            await forever()
    async def outer(group):
        group.create_task(grouped(t, "inner group", inner))
        group.create_task(child(t, "bad", 10, True))
    await grouped(t, "outer group", outer)


@scenario
async def a_group_is_cancelled_from_outside(t):
    async def body(group):
        group.create_task(child(t, "slow", 30))
        group.create_task(child(t, "quick", 5))
        with Guard(t, "body"):
            await forever()
    task = asyncio.create_task(grouped(t, "group", body))
    await asyncio.sleep(10)
    task.cancel()
    t.at(await result(task))


@scenario
async def a_group_is_cancelled_after_its_body(t):
    async def body(group):
        group.create_task(child(t, "slow", 30))
        t("body over")
    task = asyncio.create_task(grouped(t, "group", body))
    await asyncio.sleep(10)
    task.cancel()
    t.at(await result(task))


@scenario
async def a_child_makes_siblings(t):
    async def body(group):
        async def parent():
            for n in (20, 10):
                group.create_task(child(t, n, n))
            t("parent ends")
        group.create_task(parent())
        t("body over")
    await grouped(t, "group", body)


@scenario
async def a_group_without_children(t):
    async def body(group):
        t("body")
    await grouped(t, "group", body)


@scenario
async def children_that_are_awaited(t):
    async def job(n):
        await asyncio.sleep(n)
        return n
    async def body(group):
        tasks = [group.create_task(job(n)) for n in (20, 10)]
        for task in tasks:
            t.at(await task)
    await grouped(t, "group", body)


@scenario
async def groups_side_by_side(t):
    async def body(group, name, fails):
        for n in (10, 20):
            group.create_task(child(t, f"{name} {n}", n, fails))
        await forever() if fails else await asyncio.sleep(5)
    async def good(group):
        await body(group, "good", False)
    async def bad(group):
        await body(group, "bad", True)
    await asyncio.gather(grouped(t, "good group", good), grouped(t, "bad group", bad))
