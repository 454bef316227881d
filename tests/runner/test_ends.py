"""How a function's process ends: by itself, by its time, by us, in the middle of everything."""

import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from immortal_runner.execution.environment import ExecutionEnvironment, RunnerFault
from immortal_runner.execution.outcomes import Errored, Outcome, Returned
from immortal_runner.runtime_api.invocations import Invocation
from support.functions import ARN, Environments, MemoryLog

REQUEST_ID = "7c1f0b52-4b0e-4a6e-9d5b-0a1f6a3f2c11"

BOOTSTRAP = """#!/usr/bin/env python3
import http.client, json, os, signal, sys, time

api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

def say(line):
    os.write(1, (line + "\\n").encode())

def call(method, path, body=None):
    api.request(method, "/2018-06-01/runtime" + path, body)
    answer = api.getresponse()
    return answer.headers, answer.read()

def next_event():
    headers, body = call("GET", "/invocation/next")
    return headers["Lambda-Runtime-Aws-Request-Id"], body
"""


def invoke(environment: ExecutionEnvironment, event: Any = 1, *, timeout_s: float | None = None) -> Outcome:
    return environment.invoke(Invocation(REQUEST_ID, json.dumps(event).encode(), ARN), timeout_s=timeout_s)


def returned(outcome: Outcome) -> Any:
    assert isinstance(outcome, Returned), outcome
    return json.loads(outcome.result.read())


def wait_for(line: str, log: MemoryLog) -> None:
    deadline = time.monotonic() + 10
    while line not in log.text:
        assert time.monotonic() < deadline, log.text
        time.sleep(0.01)


def run_aside(work: Callable[[], Outcome]) -> tuple[threading.Thread, list[Outcome]]:
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(work()))
    thread.start()
    return thread, outcomes


@pytest.mark.conformance(22)
def test_code_that_cannot_be_loaded_is_loaded_once(environments: Environments, log: MemoryLog) -> None:
    outcome = invoke(environments("print('loading')\nimport nothing_of_that_name"))
    assert isinstance(outcome, Errored)
    assert (outcome.family, outcome.error_type) == ("init", "Runtime.ImportModuleError")
    assert log.text.count("loading") == 1


@pytest.mark.conformance(38)
def test_an_exit_after_the_answer_is_noted_beside_the_success(environments: Environments, log: MemoryLog) -> None:
    environment = environments(
        "import os, threading, time\n"
        "def die():\n  time.sleep(0.05)\n  os._exit(7)\n"
        "def handler(e, c):\n  threading.Thread(target=die).start()\n  return 'done'"
    )
    assert returned(invoke(environment)) == "done"
    assert environment._process is not None
    assert environment._process.child.wait(10)
    assert returned(invoke(environment)) == "done"
    noted = f"RequestId: {REQUEST_ID} Error: Runtime exited with error: exit status 7\nRuntime.ExitError\n"
    assert log.text.index("REPORT RequestId") < log.text.index(noted)


@pytest.mark.conformance(80)
def test_a_process_that_is_deaf_to_sigterm_is_killed_after_its_grace(
    environments: Environments, log: MemoryLog
) -> None:
    environment = environments(
        "import os, signal\nsignal.signal(signal.SIGTERM, lambda *_: None)\ndef handler(e, c): return os.getpid()"
    )
    assert returned(invoke(environment))
    began = time.monotonic()
    environment.stop()
    assert 1.5 < time.monotonic() - began < 8
    assert "Error" not in log.text


@pytest.mark.conformance(73)
def test_a_server_that_ends_before_the_process_is_our_fault_and_not_the_functions(rooms: Environments) -> None:
    environment = rooms("import time\ndef handler(e, c):\n  print('ready', flush=True)\n  time.sleep(0.2)\n  return e")

    def end_server() -> None:
        wait_for("ready", environment._transcript._log)  # type: ignore[arg-type]
        assert environment._process is not None
        environment._process.api.close()

    threading.Thread(target=end_server).start()
    with pytest.raises(RunnerFault, match="before the function's process did") as fault:
        invoke(environment)
    assert not fault.value.retryable  # the handler had begun: whether it runs again is a human's to say
    assert returned(invoke(environment, 2)) == 2


def test_stopping_waits_for_the_invocation_that_it_interrupts(rooms: Environments, log: MemoryLog) -> None:
    environment = rooms("import time\ndef handler(e, c):\n  print('ready', flush=True)\n  time.sleep(60)")
    thread, outcomes = run_aside(lambda: invoke(environment))
    wait_for("ready", log)
    began = time.monotonic()
    environment.stop()
    assert time.monotonic() - began < 8
    thread.join(1)
    assert isinstance(outcomes[0], Errored)
    assert outcomes[0].family == "interrupted"
    assert re.search(r"\nREPORT RequestId.*Sandbox.Interrupted", log.text)


def test_a_handler_that_ends_in_the_grace_of_stopping_has_finished(rooms: Environments, log: MemoryLog) -> None:
    environment = rooms("import time\ndef handler(e, c):\n  print('ready', flush=True)\n  time.sleep(0.5)\n  return 1")
    thread, outcomes = run_aside(lambda: invoke(environment))
    wait_for("ready", log)
    environment.stop()
    thread.join(1)
    assert returned(outcomes[0]) == 1


def test_what_a_runtime_does_after_its_answer_is_waited_for(rooms: Environments, log: MemoryLog) -> None:
    bootstrap = (
        BOOTSTRAP
        + """
while True:
    request_id, event = next_event()
    call("POST", f"/invocation/{request_id}/response", event)
    time.sleep(0.3)
    say("flushed")
"""
    )
    environment = rooms({"bootstrap": bootstrap}, runtime="provided.al2023")
    assert returned(invoke(environment)) == 1
    environment.stop()
    assert "flushed" in log.text


@pytest.mark.parametrize("answers", [True, False])
def test_a_runtime_that_never_comes_back_is_not_waited_for_for_ever(rooms: Environments, *, answers: bool) -> None:
    answer = 'call("POST", f"/invocation/{request_id}/response", event)\n' * answers
    bootstrap = f"{BOOTSTRAP}\nrequest_id, event = next_event()\n{answer}time.sleep(60)\n"
    environment = rooms({"bootstrap": bootstrap}, runtime="provided.al2023")
    outcome = invoke(environment, timeout_s=0.5)
    assert isinstance(outcome, Returned) == answers
    began = time.monotonic()
    environment.stop()
    assert time.monotonic() - began < 8


def test_an_init_error_is_taken_though_the_process_lingers(rooms: Environments) -> None:
    bootstrap = (
        BOOTSTRAP
        + """
call("POST", "/init/error", json.dumps({"errorType": "Mine", "errorMessage": "no"}))
time.sleep(60)
"""
    )
    began = time.monotonic()
    outcome = invoke(rooms({"bootstrap": bootstrap}, runtime="provided.al2023"))
    assert isinstance(outcome, Errored)
    assert (outcome.family, outcome.error_type) == ("init", "Mine")
    assert time.monotonic() - began < 8


def test_a_poller_that_a_timeout_left_behind_takes_no_later_event(rooms: Environments) -> None:
    environment = rooms(
        "import http.client, os, threading, time\n"
        "def ask():\n"
        "  api = http.client.HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API'])\n"
        "  api.request('GET', '/2018-06-01/runtime/invocation/next')\n"
        "  api.getresponse().read()\n"
        "def handler(e, c):\n"
        "  if e != 'slow': return e\n"
        "  threading.Thread(target=ask).start()\n"
        "  time.sleep(60)"
    )
    slow = invoke(environment, "slow", timeout_s=0.5)
    assert isinstance(slow, Errored)
    assert [returned(invoke(environment, at, timeout_s=5)) for at in range(3)] == [0, 1, 2]


@pytest.mark.conformance(74)
def test_the_hooks_of_a_snapshot_are_not_run(rooms: Environments) -> None:
    environment = rooms(
        "import os\nfrom snapshot_restore_py import register_after_restore, register_before_snapshot\n"
        "ran = []\nregister_before_snapshot(ran.append, 1)\nregister_after_restore(ran.append, 2)\n"
        "def handler(e, c): return [ran, os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']]"
    )
    assert returned(invoke(environment)) == [[], "on-demand"]


def test_a_stopped_environment_can_be_stopped_by_many(rooms: Environments) -> None:
    environment = rooms("def handler(e, c): return e")
    assert returned(invoke(environment)) == 1
    threads = [threading.Thread(target=environment.stop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert isinstance(invoke(environment), Errored)
