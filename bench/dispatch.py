"""What a dead letter costs the dispatcher: AWS calls and CPU, for batches of 1 and of 10."""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO

from bench.lines import Line
from bench.stage import Stage, dead_letter, stage
from immortal_dispatcher import handler as entry
from immortal_lambda import aws

BATCHES = 10
LIMITS = {1: 5.0, 10: 3.0}


def measure() -> Iterator[Line]:
    with stage("def handler(event, context): return 1") as on:
        environment = on.local.client("lambda").get_function(FunctionName=_dispatcher(on))
        os.environ.update(environment["Configuration"]["Environment"]["Variables"])
        for size, limit in LIMITS.items():
            calls, cpu_s = _dispatch(on, size)
            letters = size * BATCHES
            yield Line(
                f"AWS calls per dead letter, cold, batch of {size}", f"{calls / letters:.1f}", f"limit {limit:.0f}"
            )
            yield Line(f"  CPU per dead letter, batch of {size}", f"{cpu_s / letters * 1000:.1f} ms", "")


def _dispatcher(on: Stage) -> str:
    return next(value for name, value in on.outputs.items() if "Dispatcher" in name)


def _dispatch(on: Stage, size: int) -> tuple[int, float]:
    """Count what batches cost when each comes to a dispatcher that has just been started."""
    calls, cpu_s = 0, 0.0

    def count(**_: object) -> None:
        nonlocal calls
        calls += 1

    for _ in range(BATCHES):
        entry._account.cache_clear()  # noqa: SLF001  # a new Lambda environment knows nothing
        aws.client.cache_clear()
        aws.session.cache_clear()
        aws.session().register("before-send", count)
        records = [dead_letter(str(uuid.uuid4()), on) for _ in range(size)]
        began = time.thread_time()
        with redirect_stdout(StringIO()):  # its log
            assert entry.handler({"Records": records}, None) == {"batchItemFailures": []}
        cpu_s += time.thread_time() - began
    return calls, cpu_s
