"""How long from a visible dead letter to the handler's first instruction, through the whole local path."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress

from bench.lines import Line, middle_ms
from bench.stage import FUNCTION, stage
from immortal_lambda.aws import client, open_ledger
from immortal_lambda.ledger import Ledger, RunUnknown
from immortal_lambda.payloads import Inline
from immortal_lambda.runs import Run

ROUNDS = 7
CODE = """
import time
NOW = time.time
def handler(event, context):
    began = NOW()
    if context.get_remaining_time_in_millis() < 900_000:
        raise RuntimeError("on Lambda")
    return began
"""


def measure() -> Iterator[Line]:
    client.cache_clear()
    with stage(CODE) as on:
        ledger = open_ledger(on.outputs["LedgerTable"])
        functions = on.local.client("lambda")
        waits = []
        for number in range(ROUNDS):
            answer = functions.invoke(
                FunctionName=FUNCTION, InvocationType="Event", Payload=json.dumps(number).encode()
            )
            run = _await(ledger, answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"])
            assert isinstance(run.result, Inline), run
            assert run.origin is not None
            waits.append(float(run.result.data) - run.origin.failed_ms / 1000)
    yield Line(
        "dead letter visible to handler's first instruction", f"{middle_ms(waits):.0f} ms", "local process engine"
    )
    yield Line("  first of them, with a cold dispatcher", f"{waits[0] * 1000:.0f} ms", "")


def _await(ledger: Ledger, run_id: str) -> Run:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(RunUnknown):
            run = ledger.read(run_id)
            if run.ended:
                return run
        time.sleep(0.05)  # looking more often would slow down what is measured
    raise TimeoutError(run_id)
