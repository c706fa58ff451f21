"""What the scenarios share. Durations are milliseconds."""
import asyncio

SCENARIOS = {}


def scenario(f):
    SCENARIOS[f.__name__] = f
    return f


async def turns(n):
    for _ in range(n):
        await asyncio.sleep(0)


async def forever():
    await asyncio.get_running_loop().create_future()


async def result(task):
    try:
        return await task
    except asyncio.CancelledError:
        return "cancelled"
    except Exception as e:
        return f"failed {e}"


class Guard:
    """Tells if it is left by a cancel."""

    def __init__(self, t, name):
        self.t, self.name = t, name

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is asyncio.CancelledError:
            self.t(f"{self.name} cancelled")


class Trace:
    """Prints a scenario's trace."""

    def __call__(self, value):
        print(show(value))

    def at(self, value):
        """With the time."""
        print(f"{asyncio.get_running_loop().time()} ms: {show(value)}")


def show(value):
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(show(v) for v in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


async def sleep_in_guard(t, name, duration):
    with Guard(t, name):
        await asyncio.sleep(duration)
    t.at(f"{name} ends")


def sleeper(t, name, duration):
    """A task that tells when it is cancelled, and when it ends."""
    return asyncio.create_task(sleep_in_guard(t, name, duration))


async def wait_in_guard(t, name):
    with Guard(t, name):
        await forever()


def waiter(t, name):
    """A task that tells when it is cancelled, and does nothing else."""
    return asyncio.create_task(wait_in_guard(t, name))
