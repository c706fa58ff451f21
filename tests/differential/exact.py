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


class Group(asyncio.TaskGroup):
    """asyncio keeps a group's tasks in a set, so cancels them in no order; here it is that of their creation."""

    class Tasks(dict):
        def add(self, task):
            self[task] = None

        def discard(self, task):
            self.pop(task, None)

    def __init__(self):
        super().__init__()
        self._tasks = self.Tasks()
