"""CPython's half of the random programs: reads a program a line, and prints its trace and "over"."""
import asyncio
import json
import sys

from exact import Clockless, Group


class Fail(Exception):
    pass


class Program:
    """What its tasks share."""

    def __init__(self, loop):
        self.loop = loop
        self.trace = []
        self.tasks = {}
        self.locks = [asyncio.Lock() for _ in range(2)]
        self.permits = [asyncio.Semaphore(n + 1) for n in range(2)]
        self.events = [asyncio.Event() for _ in range(2)]
        self.queues = [asyncio.Queue(n) for n in range(3)]

    async def main(self, body):
        self.tasks[0] = asyncio.create_task(self.spawned(0, body))
        # What still waits is cancelled, in order; what catches that, again.
        for _ in range(2):
            await asyncio.sleep(1 << 40)
            for task in sorted(self.tasks):
                if self.tasks[task].cancel():
                    self.say("main", f"cancels {task}")
                await asyncio.sleep(1 << 32)

    def say(self, task, text):
        self.trace.append(f"{self.loop.time()} {task}: {text}")

    async def task(self, task, body):
        self.say(task, "starts")
        try:
            await Steps(self, task, None).run(body)
            self.say(task, "ends")
        except asyncio.CancelledError:
            raise
        except Fail as e:
            self.say(task, f"fails with {e}")
            raise
        except BaseException as e:
            self.say(task, f"is broken: {e!r}")
            raise

    async def spawned(self, task, body):
        """A child of a group does not tell that it is cancelled."""
        try:
            await self.task(task, body)
        except asyncio.CancelledError:
            self.say(task, "is cancelled")
            raise


class Steps:
    """The steps of one task, in a group if there is one."""

    def __init__(self, program, task, group):
        self.program, self.task, self.group = program, task, group

    def say(self, text):
        self.program.say(self.task, text)

    async def run(self, body):
        for op, numbers, bodies in body:
            await getattr(self, op)(*numbers, *bodies)

    async def Sleep(self, duration):
        await asyncio.sleep(duration)
        self.say(f"slept {duration}")

    async def Yield(self, turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        self.say(f"yielded {turns}")

    async def Spawn(self, task, body):
        self.program.tasks[task] = asyncio.create_task(self.program.spawned(task, body))

    async def Child(self, task, body):
        if self.group is not None:
            self.program.tasks[task] = self.group.create_task(self.program.task(task, body))

    async def outcome(self, awaited, task):
        """Of an await that may end because `task` was cancelled, or because we are."""
        asked = asyncio.current_task().cancelling()
        try:
            await awaited
            return "value"
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling() > asked or not task.cancelled():
                raise
            return "cancelled"
        except Fail:
            return "failed"

    async def Await(self, task):
        if handle := self.program.tasks.get(task):
            self.say(f"awaited {task}: {await self.outcome(handle, handle)}")

    async def Shield(self, task):
        if handle := self.program.tasks.get(task):
            self.say(f"shielded {task}: {await self.outcome(asyncio.shield(handle), handle)}")

    def known(self, tasks):
        return [self.program.tasks[task] for task in tasks if task in self.program.tasks]

    async def Gather(self, before, *tasks):
        await self.pause(before)
        handles = self.known(tasks)
        # Of tasks that are done, CPython 3.11 gathers two turns later, newer ones at once.
        if not all(handle.done() for handle in handles):
            await asyncio.gather(*handles, return_exceptions=True)
        shown = ["cancelled" if e.cancelled() else "failed" if e.exception() else "value" for e in handles]
        self.say(f"gathered {', '.join(shown)}")

    async def wait(self, tasks, when):
        if handles := self.known(tasks):
            done, pending = await asyncio.wait(handles, return_when=when)
            self.say(f"waited: {len(done)} done, {len(pending)} pending")

    async def WaitAll(self, before, *tasks):
        await self.pause(before)
        await self.wait(tasks, asyncio.ALL_COMPLETED)

    async def WaitFirst(self, before, *tasks):
        await self.pause(before)
        await self.wait(tasks, asyncio.FIRST_COMPLETED)

    async def pause(self, duration):
        if duration:
            await asyncio.sleep(duration)

    async def Cancel(self, task, before, after):
        await self.pause(before)
        handle = self.program.tasks.get(task)
        if handle is not None and handle is not asyncio.current_task():
            self.say(f"cancels {task}: {handle.cancel()}")
        await self.pause(after)

    async def Timeout(self, duration, body):
        try:
            async with asyncio.timeout(duration):
                await self.run(body)
        except TimeoutError:
            self.say(f"timeout {duration} expired")
        else:
            self.say(f"timeout {duration} not needed")

    async def Group(self, name, body):
        group = Group()
        try:
            async with group:
                await Steps(self.program, self.task, group).run(body)
            self.say(f"group {name} over")
        except ExceptionGroup as e:
            # A group that is cancelled loses its errors here: they go to the exception handler.
            if group.cancelled_from_outside:
                raise asyncio.CancelledError
            self.say(f"group {name} failed with {', '.join(map(str, e.exceptions))}")

    async def Guard(self, name, body):
        try:
            await self.run(body)
        except asyncio.CancelledError:
            self.say(f"guard {name}")
            raise

    async def Cleanup(self, name, body, cleanup):
        try:
            await self.run(body)
        except asyncio.CancelledError:
            await self.clean(name, cleanup)
            raise

    async def clean(self, name, cleanup):
        """A cleanup is not cancelled here: not by a second cancel either, which ends it in asyncio."""
        async def steps():
            try:
                await self.run(cleanup)
                self.say(f"cleaned {name}")
            except Fail:
                self.say(f"cleanup {name} failed")
        task = asyncio.create_task(steps())
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                pass

    async def Catch(self, name, body, handler):
        try:
            await self.run(body)
        except asyncio.CancelledError:
            self.say(f"caught {name}")
            await self.run(handler)

    async def Resume(self, name, body, handler):
        try:
            await self.run(body)
        except asyncio.CancelledError:
            self.say(f"caught {name}")
            await self.run(handler)
            self.say(f"resumes {name}")
            raise

    async def Lock(self, lock, body):
        async with self.program.locks[lock]:
            self.say(f"has lock {lock}")
            await self.run(body)
        self.say(f"gave lock {lock} back")

    async def Permit(self, semaphore, body):
        async with self.program.permits[semaphore]:
            self.say(f"has permit {semaphore}")
            await self.run(body)
        self.say(f"gave permit {semaphore} back")

    async def Set(self, event):
        self.program.events[event].set()

    async def Clear(self, event):
        self.program.events[event].clear()

    async def Wait(self, event):
        await self.program.events[event].wait()
        self.say(f"saw event {event}")

    async def Put(self, queue):
        await self.program.queues[queue].put(self.task)
        self.say(f"put into {queue}")

    async def Get(self, queue):
        self.say(f"got {await self.program.queues[queue].get()} from {queue}")

    async def Fail(self, error, before):
        await self.pause(before)
        raise Fail(error)

    async def Try(self, name, body):
        try:
            await self.run(body)
        except Fail as e:
            self.say(f"try {name} caught {e}")


def trace(body):
    loop = Clockless()
    program = Program(loop)
    loop.run_until_complete(program.main(body))
    lines = list(program.trace)
    loop.close()
    return lines


for line in sys.stdin:
    for said in trace(json.loads(line)):
        print(said)
    print("over", flush=True)
