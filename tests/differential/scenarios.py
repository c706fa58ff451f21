"""CPython's half of the scenarios: prints the trace of each."""
import asyncio
import importlib

from exact import Clockless
from scenario import SCENARIOS, Trace

for area in ("tasks", "cancels", "catching", "waits", "timeouts", "groups", "locks", "conditions", "queues"):
    importlib.import_module(area)
for name, f in SCENARIOS.items():
    print("==", name)
    with asyncio.Runner(loop_factory=Clockless) as runner:
        runner.run(f(Trace()))
