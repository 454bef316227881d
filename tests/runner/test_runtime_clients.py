"""What a runtime does to the server in a real environment: streams, several pollers, results without bound."""

import json
import os
from pathlib import Path

import pytest

from immortal_runner.execution.environment import ExecutionEnvironment
from immortal_runner.execution.outcomes import Errored, Outcome, Returned
from immortal_runner.runtime_api.bodies import Body
from immortal_runner.runtime_api.invocations import Invocation
from support.functions import ARN, Environments

STREAM = """
import base64, os, socket
def send(context, data, *, ends):
    host, port = os.environ['AWS_LAMBDA_RUNTIME_API'].split(':')
    connection = socket.create_connection((host, int(port)))
    path = f'/2018-06-01/runtime/invocation/{context.aws_request_id}/response'
    connection.sendall(f'POST {path} HTTP/1.1\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n'.encode())
    for chunk in data:
        connection.sendall(b'%x\\r\\n%b\\r\\n' % (len(chunk), chunk))
    if ends:
        body = base64.b64encode(b'{"errorType": "Half", "errorMessage": "way"}').decode()
        names = 'Lambda-Runtime-Function-Error-Type: Half\\r\\nLambda-Runtime-Function-Error-Body: '
        connection.sendall(f'0\\r\\n{names}{body}\\r\\n\\r\\n'.encode())
        connection.recv(1000)
def handler(event, context):
    send(context, [b'one', b'two'], ends=event == 'ends')
    os._exit(9)
"""


def invoke(environment: ExecutionEnvironment, event: object = None, request_id: str = "id-1") -> Outcome:
    return environment.invoke(Invocation(request_id, json.dumps(event).encode(), ARN), timeout_s=None)


@pytest.mark.conformance(67)
def test_of_a_process_that_dies_in_the_middle_of_a_stream_the_part_is_kept(environments: Environments) -> None:
    outcome = invoke(environments(STREAM), "breaks off")
    assert isinstance(outcome, Errored)
    assert (outcome.family, outcome.partial) == ("exit", Body(b"onetwo"))


@pytest.mark.conformance(18, 38)
def test_a_stream_that_failed_has_failed_though_the_process_ends_otherwise(environments: Environments) -> None:
    outcome = invoke(environments(STREAM), "ends")
    assert isinstance(outcome, Errored)
    assert (outcome.family, outcome.error_type, outcome.message) == ("handler", "Half", "way")
    assert outcome.partial == Body(b"onetwo")


@pytest.mark.conformance(79)
def test_several_pollers_take_one_event_each_and_answer_their_own(rooms: Environments) -> None:
    environment = rooms(
        "import os\ndef handler(event, context): return [event, context.aws_request_id, os.getpid()]",
        variables={"AWS_LAMBDA_MAX_CONCURRENCY": "2"},
    )
    processes = set()
    for number in range(6):
        outcome = invoke(environment, number, f"id-{number}")
        assert isinstance(outcome, Returned), outcome
        event, request_id, process = json.loads(outcome.result.read())
        assert (event, request_id) == (number, f"id-{number}")
        processes.add(process)
    assert len(processes) == 2


@pytest.mark.conformance(11)
def test_a_result_of_60_mb_costs_the_runner_no_such_memory(rooms: Environments) -> None:
    environment = rooms("def handler(event, context): return bytes(event)")
    assert invoke(environment, 10) == Returned(Body(bytes(10)))
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now
    before_kb = _peak_kb()
    outcome = invoke(environment, 60_000_000)
    assert isinstance(outcome, Returned)
    assert outcome.result.size_bytes == 60_000_000
    assert _peak_kb() - before_kb < 10_000


def _peak_kb() -> int:
    return int(Path(f"/proc/{os.getpid()}/status").read_text().partition("VmHWM:")[2].split()[0])
