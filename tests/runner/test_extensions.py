"""Extensions, external and internal: real processes that speak the Extensions API."""

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from immortal_runner.code.function import Function
from immortal_runner.execution import report
from immortal_runner.execution.environment import ExecutionEnvironment
from immortal_runner.execution.extensions import extension_variables, find_extensions, name_sandbox
from immortal_runner.execution.outcomes import Errored, Outcome, Returned
from immortal_runner.runtime_api.extensions import ExtensionsApi, Identity, State
from immortal_runner.runtime_api.invocations import Invocation
from immortal_runner.runtime_api.messages import Reply, Request
from support.functions import ARN, FUNCTION, Environments, MemoryLog

REQUEST_ID = "7c1f0b52-4b0e-4a6e-9d5b-0a1f6a3f2c11"
PATH = "/2020-01-01/extension"

AGENT = """#!/usr/bin/env python3
import http.client, json, os, signal, sys, time

NAME = os.path.basename(sys.argv[0])
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

def say(**said):
    os.write(1, (f"{NAME} " + json.dumps(said) + "\\n").encode())

def call(method, path, body=None, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    api.request(method, path, body and json.dumps(body), named)
    answer = api.getresponse()
    return answer.status, answer.headers, answer.read()

def register(*events):
    status, headers, body = call(
        "POST", "/2020-01-01/extension/register", {"events": events},
        Lambda_Extension_Name=NAME, Lambda_Extension_Accept_Feature="accountId",
    )
    say(registered=status, body=json.loads(body))
    return headers["Lambda-Extension-Identifier"]

def next_event(me):
    status, headers, body = call("GET", "/2020-01-01/extension/event/next", Lambda_Extension_Identifier=me)
    event = json.loads(body)
    say(event=event, identified=len(headers["Lambda-Extension-Event-Identifier"]))
    return event
"""

LISTENER = (
    AGENT
    + """
me = register("INVOKE", "SHUTDOWN")
while next_event(me)["eventType"] != "SHUTDOWN":
    pass
say(ended=True)
"""
)

HANDLER = """
import os

def handler(event, context):
    os.write(1, f"handled {context.aws_request_id}\\n".encode())  # at once: an agent's line must not come in between
    return event
"""


def invoke(environment: ExecutionEnvironment, event: Any = 1, *, timeout_s: float | None = None) -> Outcome:
    return environment.invoke(Invocation(REQUEST_ID, json.dumps(event).encode(), ARN), timeout_s=timeout_s)


def returned(outcome: Outcome) -> Any:
    assert isinstance(outcome, Returned), outcome
    return json.loads(outcome.result.read())


def said_by(name: str, log: MemoryLog) -> list[dict[str, Any]]:
    """What an agent said, and nothing of others."""
    return [json.loads(line.partition(" ")[2]) for line in log.text.splitlines() if line.startswith(f"{name} {{")]


def events_of(name: str, log: MemoryLog) -> list[dict[str, Any]]:
    return [said["event"] for said in said_by(name, log) if "event" in said]


def wait_until(met: Callable[[], object], log: MemoryLog) -> None:
    deadline = time.monotonic() + 10
    while not met():
        assert time.monotonic() < deadline, log.text
        time.sleep(0.01)


@pytest.mark.conformance(69)
def test_an_extension_is_told_of_each_invocation_and_of_the_end(environments: Environments, log: MemoryLog) -> None:
    environment = environments(HANDLER, layers=({"extensions/agent": LISTENER},))
    assert [returned(invoke(environment, at)) for at in range(2)] == [0, 1]
    environment.stop()
    registered, *rest = said_by("agent", log)
    assert registered == {
        "registered": 200,
        "body": {
            "functionName": FUNCTION.name,
            "functionVersion": "$LATEST",
            "handler": "app.handler",
            "accountId": "123456789012",
        },
    }
    first, second, last = events_of("agent", log)
    for event in (first, second):
        assert (event["eventType"], event["requestId"], event["invokedFunctionArn"]) == ("INVOKE", REQUEST_ID, ARN)
        assert event["deadlineMs"] > time.time() * 1000 + 1_990_000_000
        assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0", event["tracing"]["value"])
    assert (last["eventType"], last["shutdownReason"]) == ("SHUTDOWN", "spindown")
    assert rest[-1] == {"ended": True}
    lines = log.text.splitlines()
    ready = lines.index("EXTENSION\tName: agent\tState: Ready\tEvents: [INVOKE, SHUTDOWN]")
    assert ready < lines.index(f"START RequestId: {REQUEST_ID} Version: $LATEST")


@pytest.mark.conformance(69)
@pytest.mark.parametrize(
    ("handler", "timeout_s", "reason"),
    [
        ("import os\ndef handler(e, c): os._exit(3)", None, "failure"),
        ("import time\ndef handler(e, c): time.sleep(60)", 0.5, "timeout"),
        ("raise ValueError", None, "failure"),
    ],
    ids=["crash", "timeout", "init error"],
)
def test_an_extension_learns_why_its_environment_ends(
    rooms: Environments, log: MemoryLog, handler: str, timeout_s: float | None, reason: str
) -> None:
    environment = rooms(handler, layers=({"extensions/agent": LISTENER},))
    assert isinstance(invoke(environment, timeout_s=timeout_s), Errored)
    assert events_of("agent", log)[-1]["shutdownReason"] == reason


@pytest.mark.conformance(70)
def test_an_extension_that_never_registers_keeps_nothing(
    environments: Environments, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("immortal_runner.execution.process.PATIENCE_S", 0.3)
    silent = "#!/bin/sh\nexec sleep 63"
    environment = environments(HANDLER, layers=({"extensions/silent": silent},))
    assert [returned(invoke(environment, at)) for at in range(2)] == [0, 1]
    assert log.text.count("EXTENSION\tName: silent\tState: Started\tEvents: []\tError Type: Extension.Timeout\n") == 1
    environment.stop()
    assert not [each for each in psutil.Process().children(recursive=True) if each.cmdline()[:2] == ["sleep", "63"]]


def test_whoever_stops_the_run_need_not_wait_for_an_extension_to_register(rooms: Environments, log: MemoryLog) -> None:
    environment = rooms(HANDLER, layers=({"extensions/silent": "#!/bin/sh\necho here\nexec sleep 65"},))
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(invoke(environment)))
    thread.start()
    wait_until(lambda: "here" in log.text, log)
    environment.interrupt(0)
    thread.join(8)
    assert isinstance(outcomes[0], Errored)
    assert outcomes[0].family == "interrupted"


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"extensions/quits": "#!/bin/sh\nexit 3"}, "quits\tState: Exited\tEvents: []\tError Type: Extension.Crash"),
        ({"extensions/text": "no program"}, "text\tState: LaunchError\tEvents: []\tError Type: PermissionDenied"),
        ({"extensions/lost": "#!/nothing/there"}, "lost\tState: Exited\tEvents: []\tError Type: Extension.Crash"),
        (
            {
                "extensions/fails": AGENT
                + "call('POST', '/2020-01-01/extension/init/error', {}, Lambda_Extension_Identifier=register(),\n"
                "     Lambda_Extension_Function_Error_Type='Extension.NoConfig')\n"
            },
            "fails\tState: InitError\tEvents: []\tError Type: Extension.NoConfig",
        ),
    ],
    ids=["exits", "no program", "no interpreter", "init error"],
)
def test_an_extension_that_fails_is_a_line_in_the_log(
    rooms: Environments, log: MemoryLog, files: dict[str, str], line: str
) -> None:
    environment = rooms(HANDLER, layers=({**files, "extensions/folder/file": "#!/bin/sh\n"},))
    assert returned(invoke(environment)) == 1
    wait_until(lambda: f"EXTENSION\tName: {line}" in log.text, log)
    assert "folder" not in log.text


def test_an_extension_that_dies_between_two_invocations_keeps_the_next_from_nothing(
    rooms: Environments, log: MemoryLog
) -> None:
    once = AGENT + "me = register('INVOKE')\nnext_event(me)\nsys.exit(1)\n"
    environment = rooms(HANDLER, layers=({"extensions/once": once},))
    assert [returned(invoke(environment, at)) for at in range(2)] == [0, 1]
    assert "Name: once\tState: Exited\tEvents: [INVOKE]\tError Type: Extension.Crash" in log.text


def test_the_next_invocation_waits_until_extensions_are_done_with_the_last(rooms: Environments, log: MemoryLog) -> None:
    slow = AGENT + "me = register('INVOKE')\nwhile next_event(me):\n  time.sleep(0.3)\n  say(flushed=True)\n"
    environment = rooms(HANDLER, layers=({"extensions/slow": slow},))
    assert [returned(invoke(environment, at)) for at in range(2)] == [0, 1]
    wait_until(lambda: len(events_of("slow", log)) == 2, log)
    lines = [line for line in log.text.splitlines() if line.startswith(("slow", "handled"))]
    assert lines.index('slow {"flushed": true}') < len(lines) - 1 - lines[::-1].index(f"handled {REQUEST_ID}")


def test_an_extension_that_never_comes_back_from_an_invocation_is_waited_for_once(
    rooms: Environments, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("immortal_runner.execution.process.PATIENCE_S", 1.0)
    stuck = AGENT + "me = register('INVOKE')\nnext_event(me)\ntime.sleep(64)\n"
    environment = rooms(HANDLER, layers=({"extensions/stuck": stuck},))
    assert [returned(invoke(environment, at)) for at in range(2)] == [0, 1]
    assert "EXTENSION\tName: stuck\tState: Running\tEvents: [INVOKE]\tError Type: Extension.Timeout\n" in log.text
    began = time.monotonic()
    assert returned(invoke(environment, 2)) == 2
    assert time.monotonic() - began < 0.9


def test_an_extension_that_is_deaf_to_its_end_is_ended(rooms: Environments, log: MemoryLog) -> None:
    deaf = (
        AGENT
        + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nme = register('INVOKE', 'SHUTDOWN')\n"
        + "while True: next_event(me)\n"
    )
    environment = rooms(HANDLER, layers=({"extensions/deaf": deaf},))
    assert returned(invoke(environment)) == 1
    began = time.monotonic()
    environment.stop()
    assert time.monotonic() - began < 8
    assert events_of("deaf", log)[-1]["eventType"] == "SHUTDOWN"
    assert not [each for each in psutil.Process().children(recursive=True) if "deaf" in " ".join(each.cmdline())]


def test_an_extension_finds_what_it_finds_on_lambda(rooms: Environments, log: MemoryLog) -> None:
    curious = (
        AGENT
        + "import socket\nme = register('INVOKE')\nopen('/tmp/shared', 'w').write('by the agent')\n"
        + "say(found=sorted(os.environ), cwd=os.getcwd(), uid=os.getuid(), own=os.path.exists('/var/task/app.py'),\n"
        + "    sandbox=socket.gethostbyname('sandbox.localdomain'))\nnext_event(me)\n"
    )
    environment = rooms(
        "def handler(event, context): return open('/tmp/shared').read()",
        layers=({"extensions/curious": curious},),
        variables={"MINE": "1"},
    )
    assert returned(invoke(environment)) == "by the agent"
    said = next(each for each in said_by("curious", log) if "found" in each)
    assert (said["cwd"], said["uid"], said["own"], said["sandbox"]) == ("/", 993, True, "127.0.0.1")
    assert {"AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_FUNCTION_NAME", "AWS_ACCESS_KEY_ID", "MINE"} <= set(said["found"])
    assert not [name for name in said["found"] if name.startswith("_") and name != "_"]
    assert "LAMBDA_TASK_ROOT" not in said["found"]


@pytest.mark.conformance(71)
def test_an_agent_that_wants_telemetry_is_told_that_there_is_none_and_goes_on(
    rooms: Environments, log: MemoryLog
) -> None:
    wants = (
        AGENT
        + "me = register('INVOKE')\n"
        + "for path in ('/2022-07-01/telemetry', '/2022-07-01/telemetry/', '/2020-08-15/logs', '/2020-08-15/logs/'):\n"
        + "    destination = {'protocol': 'HTTP', 'URI': 'http://sandbox.localdomain:4243'}\n"
        + "    status, _, body = call('PUT', path, {'destination': destination}, Lambda_Extension_Identifier=me)\n"
        + "    say(status=status, type=json.loads(body)['errorType'])\nnext_event(me)\n"
    )
    environment = rooms(HANDLER, layers=({"extensions/wants": wants},))
    assert returned(invoke(environment)) == 1
    answers = [(said["status"], said["type"]) for said in said_by("wants", log) if "status" in said]
    assert answers == [(202, "Telemetry.NotSupported")] * 2 + [(202, "Logs.NotSupported")] * 2


def test_without_extensions_none_is_started(rooms: Environments, log: MemoryLog) -> None:
    environment = rooms(HANDLER, layers=({"extensions/agent": LISTENER},), extensions=False)
    assert returned(invoke(environment)) == 1
    assert "agent" not in log.text


INTERNAL = """
import http.client, json, os, signal, threading
api = os.environ["AWS_LAMBDA_RUNTIME_API"]

def call(method, path, body=None, **headers):
    connection = http.client.HTTPConnection(api)
    connection.request(method, "/2020-01-01/extension" + path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()

status, headers, _ = call("POST", "/register", '{"events": null}', **{"Lambda-Extension-Name": "GoLangEnableSIGTERM"})
me = {"Lambda-Extension-Identifier": headers["Lambda-Extension-Identifier"]}
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"saw SIGTERM\\n"))

def handler(event, context):
    if event == "late":
        late = call("POST", "/register", "{}", **{"Lambda-Extension-Name": "late"})
        return [late[0], json.loads(late[2])["errorType"]]
    return status
"""


@pytest.mark.conformance(68)
@pytest.mark.parametrize("asks", [True, False])
def test_gos_way_to_hear_sigterm_is_served(rooms: Environments, log: MemoryLog, *, asks: bool) -> None:
    asking = "threading.Thread(target=call, args=('GET', '/event/next'), kwargs=me, daemon=True).start()\n"
    environment = rooms(INTERNAL + asking * asks)
    assert returned(invoke(environment)) == 200
    assert returned(invoke(environment, "late")) == [403, "Extension.RegistrationClosed"]
    environment.stop()
    assert "saw SIGTERM" in log.text
    assert re.search(r"EXTENSION\tName: GoLangEnableSIGTERM\tState: (Ready|Registered)\tEvents: \[\]\n", log.text)


ADAPTER = (
    AGENT
    + """
import threading
me = register()
runtime = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
threading.Thread(target=next_event, args=(me,), daemon=True).start()
while True:
    runtime.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = runtime.getresponse()
    event, request_id = answer.read(), answer.headers["Lambda-Runtime-Aws-Request-Id"]
    runtime.request("POST", f"/2018-06-01/runtime/invocation/{request_id}/response", b"[" + event + b"]")
    runtime.getresponse().read()
"""
)


def test_an_extension_may_ask_for_events_in_the_runtimes_place(rooms: Environments, log: MemoryLog) -> None:
    """As the Lambda Web Adapter does, whose runtime is a web server that knows nothing of Lambda."""
    bootstrap = "#!/bin/sh\nexec sleep 66\n"
    layers = ({"extensions/adapter": ADAPTER},)
    environment = rooms({"bootstrap": bootstrap}, layers=layers, runtime="provided.al2023")
    assert [returned(invoke(environment, at)) for at in range(2)] == [[0], [1]]
    assert "EXTENSION\tName: adapter\tState: Ready\tEvents: []\n" in log.text


def api_of(*expected: str) -> ExtensionsApi:
    api = ExtensionsApi(Identity("f", "7", "app.handler", "123456789012"), lambda: None)
    for name in expected:
        api.expect(name)
    return api


def ask(api: ExtensionsApi, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
    named = {f"lambda-extension-{name.replace('_', '-')}": value for name, value in headers.items()}
    reply = api.answer(Request(method, path, named, body))
    assert reply is not None
    return reply


def register(api: ExtensionsApi, name: str, *events: str) -> str:
    reply = ask(api, "POST", f"{PATH}/register", json.dumps({"events": events}).encode(), name=name)
    assert reply.status == 200, reply
    return dict(reply.headers)["Lambda-Extension-Identifier"]


UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("call", "body", "headers", "status", "error_type"),
    [
        ("POST /register", b"{}", {}, 403, "Extension.InvalidExtensionName"),
        ("POST /register", b"[", {"name": "a"}, 403, "InvalidRequestFormat"),
        ("POST /register", b"[]", {"name": "a"}, 403, "InvalidRequestFormat"),
        ("POST /register", b"[" * 99_999, {"name": "a"}, 403, "InvalidRequestFormat"),
        ("POST /register", b'{"events": [7]}', {"name": "a"}, 403, "InvalidRequestFormat"),
        ("POST /register", b'{"configurationKeys": ["k"]}', {"name": "a"}, 403, "InvalidRequestFormat"),
        ("POST /register", b'{"events": ["WAKE"]}', {"name": "a"}, 403, "Extension.InvalidEventType"),
        ("POST /register", b'{"events": ["SHUTDOWN"]}', {"name": "inner"}, 403, "Extension.InvalidEventType"),
        ("GET /event/next", b"", {}, 403, "Extension.MissingExtensionIdentifier"),
        ("GET /event/next", b"", {"identifier": "me"}, 403, "Extension.InvalidExtensionIdentifier"),
        ("GET /event/next", b"", {"identifier": UNKNOWN}, 403, "Extension.UnknownExtensionIdentifier"),
        ("POST /init/error", b"{}", {"identifier": UNKNOWN}, 403, "Extension.UnknownExtensionIdentifier"),
        ("POST /exit/error", b"{}", {}, 403, "Extension.MissingExtensionIdentifier"),
        ("GET /register", b"", {"name": "a"}, 404, "NotFound"),
    ],
)
def test_what_an_extension_may_not_ask_is_refused_as_on_lambda(
    call: str, body: bytes, headers: dict[str, str], status: int, error_type: str
) -> None:
    method, path = call.split()
    reply = ask(api_of("a"), method, PATH + path, body, **headers)
    assert (reply.status, json.loads(reply.body)["errorType"]) == (status, error_type)


def test_an_extension_registers_once_and_there_are_ten_at_most() -> None:
    api = api_of("a")
    me = register(api, "a", "INVOKE", "SHUTDOWN")
    again = ask(api, "POST", f"{PATH}/register", b"{}", name="a")
    assert json.loads(again.body)["errorType"] == "Extension.InvalidExtensionState"
    for at in range(9):
        register(api, f"inner-{at}")
    one_more = ask(api, "POST", f"{PATH}/register", b"{}", name="inner-9")
    assert (one_more.status, json.loads(one_more.body)["errorType"]) == (403, "Extension.TooManyExtensions")
    no_type = ask(api, "POST", f"{PATH}/exit/error", b"{}", identifier=me)
    assert (no_type.status, json.loads(no_type.body)["errorType"]) == (403, "Extension.MissingHeader")
    failed = ask(api, "POST", f"{PATH}/exit/error", b"{}", identifier=me, function_error_type="Mine")
    assert failed.status == 202
    after = ask(api, "GET", f"{PATH}/event/next", identifier=me)
    assert json.loads(after.body)["errorType"] == "Extension.InvalidExtensionState"


def test_an_extension_that_asks_anew_takes_the_place_of_its_broken_connection() -> None:
    api = api_of("a")
    me = {"lambda-extension-identifier": register(api, "a", "INVOKE")}
    replies: list[Reply | None] = []

    def poll() -> None:
        replies.append(api.answer(Request("GET", f"{PATH}/event/next", me)))

    first = threading.Thread(target=poll)
    first.start()
    wait_until(lambda: api.all()[0].polls == 1, MemoryLog())
    second = threading.Thread(target=poll)
    second.start()
    first.join(5)
    assert replies == [None]
    assert api.offer("INVOKE", {"eventType": "INVOKE"}, to=[State.READY]) == ("a",)
    second.join(5)
    assert isinstance(replies[1], Reply)
    assert json.loads(replies[1].body) == {"eventType": "INVOKE"}
    third = threading.Thread(target=poll)
    third.start()
    wait_until(lambda: api.all()[0].state is State.READY, MemoryLog())
    api.close()
    third.join(5)
    assert replies[2] is None


def test_an_extension_finds_no_variable_of_the_runtimes_own() -> None:
    variables = {"_HANDLER": "a.b", "AWS_EXECUTION_ENV": "x", "LAMBDA_TASK_ROOT": "/var/task", "MINE": "1"}
    assert extension_variables(variables) == {"MINE": "1"}


def test_the_sandbox_gets_its_name_once(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    for _ in range(2):
        name_sandbox(hosts)
    assert hosts.read_text() == "127.0.0.1 localhost\n127.0.0.1 sandbox.localdomain sandbox\n"
    name_sandbox(tmp_path / "missing")


def test_extensions_are_all_that_is_no_folder(tmp_path: Path) -> None:
    assert find_extensions(tmp_path / "extensions") == {}
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").touch()
    (tmp_path / "agent").touch(mode=0o755)
    assert find_extensions(tmp_path) == {"agent": True, "text": False}


@pytest.mark.parametrize("log_format", ["Text", "JSON"])
def test_the_line_of_an_extension_is_lambdas(log_format: str) -> None:
    function: Function = replace(FUNCTION, log_format=log_format, system_log_level="INFO")
    now = datetime(2026, 11, 21, tzinfo=UTC)
    line = report.extension(function, "agent", "Exited", ["INVOKE"], error_type="Extension.Crash", now=now)
    if log_format == "Text":
        assert line == "EXTENSION\tName: agent\tState: Exited\tEvents: [INVOKE]\tError Type: Extension.Crash\n"
    else:
        said = json.loads(line)
        assert said["type"] == "platform.extension"
        assert said["record"] == {
            "name": "agent",
            "state": "Exited",
            "events": ["INVOKE"],
            "errorType": "Extension.Crash",
        }
