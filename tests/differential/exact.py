"""What asyncio leaves open, made exact, to be compared with corio: time, and two orders."""
import asyncio
import heapq
import itertools


class InOrder(asyncio.TimerHandle):
    """asyncio leaves open in which order timers of one instant fire; here it is that of their creation."""

    numbers = itertools.count()

    def __init__(self, *args):
        super().__init__(*args)
        self.number = next(self.numbers)

    def __lt__(self, other):
        return (self._when, self.number) < (other._when, other.number)


class Clockless(asyncio.BaseEventLoop):
    """A loop without files. Its clock goes to the next deadline when nothing is ready; times are whole numbers, of any
    unit."""

    def __init__(self):
        super().__init__()
        self.now = 0
        self._clock_resolution = 1
        self._selector = self
        self.set_exception_handler(lambda loop, context: None)

    def time(self):
        return self.now

    def call_at(self, when, callback, *args, context=None):
        timer = InOrder(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer

    def select(self, timeout):
        if timeout != 0:
            self.now = max(self.now, self._scheduled[0]._when)
        return []

    def _process_events(self, events):
        pass

    def _write_to_self(self):
        pass


class Parent:
    """A group's parent. CPython 3.13 cancels one that has caught a cancel, without `uncancel`, once more when the group
    fails; older ones do not, nor does corio."""

    def __init__(self, task):
        self.cancel, self.uncancel, self.done = task.cancel, task.uncancel, task.done

    def cancelling(self):
        return 0


class Group(asyncio.TaskGroup):
    """asyncio keeps a group's tasks in a set, so cancels them in no order; here it is that of their creation."""

    class Tasks(dict):
        def add(self, task):
            self[task] = None

        def discard(self, task):
            self.pop(task, None)

    # Whether a group whose child fails after its body takes back that it has cancelled its parent: since 3.13.
    uncancels = True

    def __init__(self):
        super().__init__()
        self._tasks = self.Tasks()
        # Somebody other than the group has cancelled its body, or its wait for its tasks.
        self.cancelled_from_outside = False

    async def __aenter__(self):
        await super().__aenter__()
        self.me = self._parent_task
        self.cancels = self.me.cancelling()
        self._parent_task = Parent(self.me)
        return self

    async def __aexit__(self, kind, *args):
        by_itself = self._parent_cancel_requested
        cancels = max(0, self.me.cancelling() - by_itself)
        if kind is asyncio.CancelledError:
            self.cancelled_from_outside = not by_itself or cancels > self.cancels
        try:
            return await super().__aexit__(kind, *args)
        finally:
            if self._parent_cancel_requested and not by_itself and not self.uncancels:
                self.me.uncancel()
            self.cancelled_from_outside |= self.me.cancelling() > cancels


async def group_uncancels():
    async def fail():
        raise ValueError
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
    except ExceptionGroup:
        return asyncio.current_task().cancelling() == 0


Group.uncancels = asyncio.run(group_uncancels())
