"""Real processes of AWS's own Python client, in a room of their own and without one."""

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from immortal_runner.code.function import FunctionRefused
from immortal_runner.code.layout import lay_out
from immortal_runner.execution import logs
from immortal_runner.execution.credentials import EndpointCredentials, StaticCredentials, TemporaryCredentials
from immortal_runner.execution.environment import ExecutionEnvironment
from immortal_runner.execution.logs import CloudWatchLogStream
from immortal_runner.execution.outcomes import Errored, Outcome, Returned
from immortal_runner.runtime_api.bodies import Body
from immortal_runner.runtime_api.invocations import Invocation
from immortal_runner.runtimes.machine import this_machine
from immortal_runner.runtimes.start import _open_to_all
from support.functions import ARN, FUNCTION, Environments, MemoryLog, make_zip

REQUEST_ID = "7c1f0b52-4b0e-4a6e-9d5b-0a1f6a3f2c11"


def invoke(
    environment: ExecutionEnvironment, event: Any = None, *, timeout_s: float | None = None, **about: Any
) -> Outcome:
    data = event if isinstance(event, bytes) else json.dumps(event).encode()
    return environment.invoke(Invocation(REQUEST_ID, data, ARN, **about), timeout_s=timeout_s)


def returned(outcome: Outcome) -> Any:
    assert isinstance(outcome, Returned), outcome
    return json.loads(outcome.result.read())


def errored(outcome: Outcome) -> Errored:
    assert isinstance(outcome, Errored), outcome
    return outcome


@pytest.mark.conformance(1, 8)
@pytest.mark.parametrize("event", [{}, None, "text", 17, {"ü": [1, 2]}], ids=str)
def test_an_event_comes_back_as_it_was_given(environments: Environments, event: Any) -> None:
    assert returned(invoke(environments("def handler(event, context): return event"), event)) == event


@pytest.mark.conformance(7)
def test_a_20_mb_event_arrives_whole(environments: Environments) -> None:
    environment = environments("def handler(event, context): return len(event)")
    assert returned(invoke(environment, b'"' + b"x" * 20_000_000 + b'"')) == 20_000_000


@pytest.mark.conformance(11)
def test_a_10_mb_result_is_kept(environments: Environments) -> None:
    assert len(returned(invoke(environments("def handler(event, context): return 'x' * 10_000_000")))) == 10_000_000


@pytest.mark.conformance(10)
def test_a_handler_that_returns_nothing_returns_null(environments: Environments) -> None:
    assert invoke(environments("def handler(event, context): pass")) == Returned(Body(b"null"))


@pytest.mark.conformance(12, 13)
def test_nan_and_bytes_are_kept_as_they_were_posted(environments: Environments) -> None:
    environment = environments("def handler(event, context): return float('nan') if event else b'\\xff\\x00'")
    assert invoke(environment, 1) == Returned(Body(b"NaN"))
    assert invoke(environment, 0) == Returned(Body(b"\xff\x00"))


@pytest.mark.conformance(16)
def test_what_the_handler_raises_is_its_error(environments: Environments) -> None:
    error = errored(invoke(environments("def handler(event, context): raise ValueError('x')")))
    assert (error.family, error.error_type, error.message) == ("handler", "ValueError", "x")
    assert "raise ValueError('x')" in "".join(error.stack_trace)


@pytest.mark.conformance(9)
def test_an_event_that_is_no_json_is_an_error_and_the_process_lives(environments: Environments) -> None:
    environment = environments("import os\ndef handler(event, context): return os.getpid()")
    process = returned(invoke(environment))
    assert errored(invoke(environment, b"{no json")).error_type == "Runtime.UnmarshalError"
    assert returned(invoke(environment)) == process


@pytest.mark.conformance(21)
def test_a_result_that_is_no_json_is_an_error(environments: Environments) -> None:
    error = errored(invoke(environments("def handler(event, context): return {1}")))
    assert (error.family, error.error_type) == ("handler", "Runtime.MarshalError")


@pytest.mark.conformance(19)
def test_a_deep_recursion_is_recorded_and_the_process_lives(environments: Environments) -> None:
    """Its X-Ray header is longer than most servers take."""
    environment = environments(
        "import os, sys\nsys.setrecursionlimit(10000)\n"
        "def f(n): return f(n + 1)\n"
        "def handler(event, context): return os.getpid() if event else f(0)"
    )
    before = returned(invoke(environment, 1))
    assert errored(invoke(environment, 0)).error_type == "RecursionError"
    assert returned(invoke(environment, 1)) == before


@pytest.mark.conformance(20)
def test_an_error_of_2_mb_is_recorded_whole(environments: Environments) -> None:
    environment = environments("def handler(event, context): raise ValueError('x' * 2_000_000)")
    assert len(errored(invoke(environment)).message) == 2_000_000


@pytest.mark.conformance(22, 23)
@pytest.mark.parametrize(
    ("code", "error_type"),
    [
        ("import nothing_of_that_name", "Runtime.ImportModuleError"),
        ("def handler(:", "Runtime.UserCodeSyntaxError"),
        ("def other(): pass", "Runtime.HandlerNotFound"),
        ("raise KeyError('at import')", "KeyError"),
    ],
    ids=["module missing", "syntax", "handler missing", "raises"],
)
def test_code_that_cannot_be_loaded_is_an_init_error(environments: Environments, code: str, error_type: str) -> None:
    error = errored(invoke(environments(code)))
    assert (error.family, error.error_type) == ("init", error_type)


@pytest.mark.conformance(24, 25, 26, 27, 28)
@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import sys\nsys.exit(3)", "Runtime exited with error: exit status 3"),
        ("import sys\ndef handler(e, c): sys.exit(3)", "Runtime exited with error: exit status 3"),
        ("def handler(e, c): exit(4)", "Runtime exited with error: exit status 4"),
        ("import os\ndef handler(e, c): os._exit(0)", "Runtime exited without providing a reason"),
        ("import os\ndef handler(e, c): os.kill(os.getpid(), 9)", "Runtime exited with error: signal: killed"),
        (
            "import ctypes\ndef handler(e, c): ctypes.string_at(0)",
            "Runtime exited with error: signal: segmentation fault",
        ),
        ("import os\ndef handler(e, c): os.abort()", "Runtime exited with error: signal: aborted"),
    ],
    ids=["exit at import", "exit", "builtin exit", "exit 0", "killed", "segfault", "abort"],
)
def test_a_process_that_dies_says_how(environments: Environments, log: MemoryLog, code: str, says: str) -> None:
    error = errored(invoke(environments(code)))
    assert (error.family, error.error_type) == ("exit", "Runtime.ExitError")
    assert error.message == f"RequestId: {REQUEST_ID} Error: {says}"
    assert json.loads(error.body) == {"errorType": error.error_type, "errorMessage": error.message}
    assert f"END RequestId: {REQUEST_ID}" in log.text


@pytest.mark.conformance(37)
def test_after_a_crash_the_next_event_finds_a_new_process(environments: Environments) -> None:
    environment = environments(
        "import os\nstate = []\ndef handler(e, c):\n  state.append(1)\n  return os._exit(1) if e else len(state)"
    )
    assert returned(invoke(environment, 0)) == 1
    assert returned(invoke(environment, 0)) == 2
    errored(invoke(environment, 1))
    assert returned(invoke(environment, 0)) == 1


@pytest.mark.conformance(38)
def test_a_process_that_answers_and_then_dies_has_answered(environments: Environments) -> None:
    code = (
        "import os, threading, time\n"
        "def handler(e, c):\n"
        "  def die():\n"
        "    time.sleep(0.05)\n"
        "    os._exit(7)\n"
        "  threading.Thread(target=die).start()\n"
        "  return 'done'"
    )
    environment = environments(code)
    assert returned(invoke(environment)) == "done"
    assert returned(invoke(environment)) == "done"


def test_the_time_limit_kills_and_says_so_as_lambda_does(environments: Environments, log: MemoryLog) -> None:
    environment = environments("import time\ndef handler(event, context):\n  print('begun')\n  time.sleep(60)")
    began = time.monotonic()
    error = errored(invoke(environment, timeout_s=1))
    assert 1 <= time.monotonic() - began < 4
    assert error.message == f"RequestId: {REQUEST_ID} Error: Task timed out after 1.00 seconds"
    assert (error.family, error.error_type) == ("timeout", "Sandbox.Timedout")
    lines = log.text.splitlines()
    assert lines[:2] == [f"START RequestId: {REQUEST_ID} Version: $LATEST", "begun"]
    assert lines[2].endswith(f"Z {REQUEST_ID} Task timed out after 1.00 seconds")
    assert lines[3] == f"END RequestId: {REQUEST_ID}"
    assert "\tStatus: timeout" in lines[4]


def test_the_kill_takes_everything_that_the_handler_started(environments: Environments) -> None:
    mark = str(600 + os.getpid() % 100) + "." + str(time.time_ns() % 10_000_000)
    environment = environments(
        "import subprocess, time\n"
        "def handler(event, context):\n"
        f"  subprocess.Popen(['setsid', 'sleep', '{mark}'], start_new_session=True)\n"
        "  time.sleep(60)"
    )
    invoke(environment, timeout_s=1)
    assert not [each for each in psutil.process_iter(["cmdline"]) if mark in (each.info["cmdline"] or [])]


@pytest.mark.conformance(32, 36)
def test_without_a_limit_the_handler_sees_no_deadline_near(environments: Environments) -> None:
    environment = environments("def handler(event, context): return context.get_remaining_time_in_millis()")
    for _ in range(2):
        assert 1_990_000_000 < returned(invoke(environment)) <= 2_000_000_000


@pytest.mark.conformance(35)
def test_with_a_limit_the_handler_sees_it(environments: Environments) -> None:
    environment = environments("def handler(event, context): return context.get_remaining_time_in_millis()")
    assert 2_000 < returned(invoke(environment, timeout_s=3)) <= 3_000


@pytest.mark.conformance(39, 41, 42, 43)
def test_the_context_is_the_functions_own(environments: Environments) -> None:
    environment = environments(
        "def handler(event, c):\n"
        "  return [c.aws_request_id, c.function_name, c.function_version, c.invoked_function_arn,\n"
        "          c.memory_limit_in_mb, c.log_group_name, c.log_stream_name, c.client_context.custom,\n"
        "          c.identity.cognito_identity_id]",
        version="7",
    )
    identity = json.dumps({"cognitoIdentityId": "eu:1", "cognitoIdentityPoolId": "eu:2"})
    invocation = Invocation(
        REQUEST_ID, b"{}", f"{ARN}:live", client_context='{"custom": {"who": "é"}}', cognito_identity=identity
    )
    assert returned(environment.invoke(invocation, timeout_s=None)) == [
        REQUEST_ID,
        "report-builder",
        "7",
        f"{ARN}:live",
        "128",
        "/aws/lambda/report-builder",
        MemoryLog.name,
        {"who": "é"},
        "eu:1",
    ]


@pytest.mark.conformance(45)
def test_the_trace_header_is_in_the_environment_while_the_handler_runs(environments: Environments) -> None:
    header = "Root=1-6abf80b9-0123456789abcdef01234567;Parent=0123456789abcdef;Sampled=0"
    environment = environments("import os\ndef handler(event, context): return os.environ['_X_AMZN_TRACE_ID']")
    assert returned(invoke(environment, trace_header=header)) == header


@pytest.mark.conformance(46, 47, 51)
def test_the_environment_holds_lambdas_names_and_nothing_of_ours(
    environments: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMMORTAL_LEDGER_TABLE", "ours")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/ours")
    environment = environments(
        "import os\ndef handler(event, context): return dict(os.environ)",
        variables={"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
    )
    found = returned(invoke(environment))
    assert not [
        name for name in found if "IMMORTAL" in name or "ECS" in name or name in {"HOME", "HOSTNAME", "VIRTUAL_ENV"}
    ]
    assert "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" not in found
    assert found["AWS_LAMBDA_FUNCTION_NAME"] == "report-builder"
    assert found["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13"
    assert found["AWS_REGION"] == found["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert found["AWS_ACCESS_KEY_ID"] == "AKIAEXAMPLE"
    assert found["TZ"] == ":UTC"


def test_our_modules_are_not_on_the_functions_path(environments: Environments) -> None:
    environment = environments(
        "import importlib.util as u\n"
        "def handler(event, context): return [n for n in event if u.find_spec(n) is not None]"
    )
    assert returned(invoke(environment, ["immortal_lambda", "immortal_runner", "pytest", "boto3"])) == ["boto3"]


def test_the_function_holds_no_pipe_but_its_output(environments: Environments) -> None:
    """Least of all the one whose end tells the sandbox that the runner has gone: whoever holds it can outlive both."""
    code = """
import os
def handler(event, context):
    held = [f"/proc/self/fd/{number}" for number in range(3, 64)]
    return [os.readlink(each) for each in held if os.path.lexists(each) and "pipe" in os.readlink(each)]
"""
    assert returned(invoke(environments(code))) == []


def test_an_environment_that_can_not_be_made_leaves_no_file(tmp_path: Path) -> None:
    layout = lay_out(make_zip(tmp_path / "0.zip", {"app.py": ""}), [], tmp_path / "root")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    credentials = StaticCredentials("AKIAEXAMPLE", "secret")
    with pytest.raises(FunctionRefused):
        ExecutionEnvironment(
            replace(FUNCTION, runtime="ruby3.3"), layout, credentials=credentials, log=MemoryLog(), scratch=scratch
        )
    assert not list(scratch.iterdir())


@pytest.mark.conformance(53)
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_the_function_is_another_user_and_can_write_to_tmp_alone(environments: Environments) -> None:
    """As far as this machine allows."""
    environment = environments(
        "import os, tempfile\n"
        "def handler(event, context):\n"
        "  tempfile.NamedTemporaryFile(dir='/tmp').close()\n"
        "  return [os.getuid(), os.getgid(), os.getcwd() == os.environ['LAMBDA_TASK_ROOT'],\n"
        "          os.access(os.environ['LAMBDA_TASK_ROOT'], os.W_OK), os.access('/etc', os.W_OK)]"
    )
    uid, gid, at_home, *writable = returned(invoke(environment))
    assert at_home
    if uid == 0:
        assert not _open_to_all(this_machine().python)  # no other user could even start the interpreter
    else:
        assert (uid, gid, *writable) == (993, 990, False, False)


def test_in_a_room_the_function_sees_lambdas_paths(rooms: Environments) -> None:
    environment = rooms(
        "import getpass, os, pathlib\n"
        "def handler(event, context):\n"
        "  return [os.getcwd(), __file__, open('/opt/data').read(), os.listdir('/tmp'), getpass.getuser(),\n"
        "          os.getuid(), str(pathlib.Path.home()), os.path.exists('/home')]",
        layers=({"data": "layered"},),
    )
    assert returned(invoke(environment)) == [
        "/var/task",
        "/var/task/app.py",
        "layered",
        [],
        "sbx_user1051",
        993,
        "/home/sbx_user1051",
        False,
    ]


@pytest.mark.conformance(59)
def test_packages_come_from_the_function_then_its_layers_then_the_runtime(environments: Environments) -> None:
    environment = environments(
        {"app.py": "import a, b, c\ndef handler(e, x): return [a.who, b.who, c.who]", "a.py": "who = 'task'"},
        layers=(
            {"python/a.py": "who = 'layer 1'", "python/b.py": "who = 'layer 1'", "python/c.py": "who = 'layer 1'"},
            {"python/c.py": "who = 'layer 2'"},
        ),
    )
    assert returned(invoke(environment)) == ["task", "layer 1", "layer 2"]


@pytest.mark.conformance(61)
def test_a_function_may_name_its_files_like_the_standard_librarys(environments: Environments) -> None:
    """The client has been imported before; whatever the handler decides, it is reported."""
    files = {
        "app.py": "import queue\ndef handler(e, c): return queue.who",
        "json.py": "raise 1",
        "queue.py": "who = 'mine'",
    }
    outcome = invoke(environments(files))
    assert isinstance(outcome, (Returned, Errored))
    assert "Runtime.ExitError" not in str(outcome)


@pytest.mark.conformance(62)
@pytest.mark.parametrize("handler", ["a/b.handler", "my-app.handler", "a.b.handler"])
def test_handlers_are_found_as_lambda_finds_them(environments: Environments, handler: str) -> None:
    code = "def handler(e, c): return 'found'"
    assert returned(invoke(environments({"a/b.py": code, "my-app.py": code}, handler=handler))) == "found"


@pytest.mark.conformance(63)
def test_a_built_in_module_is_no_handler(environments: Environments) -> None:
    assert errored(invoke(environments("", handler="time.handler"))).error_type == "Runtime.BuiltInModuleConflict"


@pytest.mark.conformance(72)
def test_output_is_kept_byte_for_byte_and_in_order(environments: Environments, log: MemoryLog) -> None:
    environment = environments(
        "import os\n"
        "def handler(event, context):\n"
        "  for n in range(1000): os.write(1, b'%d\\xff\\n' % n)\n"
        "  os.write(2, b'no end')"
    )
    invoke(environment)
    start, end = log.data.index(b"\n") + 1, log.data.index(b"END RequestId")
    assert log.data[start:end] == b"".join(b"%d\xff\n" % n for n in range(1000)) + b"no end"


def test_the_tail_is_what_the_last_invocation_logged(environments: Environments) -> None:
    environment = environments("def handler(event, context): print(event)")
    invoke(environment, "first")
    invoke(environment, "second")
    tail = environment.log_tail.decode()
    assert tail.startswith(f"START RequestId: {REQUEST_ID}")
    assert "second" in tail
    assert "first" not in tail


@pytest.mark.conformance(50)
def test_the_functions_credentials_come_from_an_endpoint_that_wants_its_token(environments: Environments) -> None:
    from datetime import UTC, datetime, timedelta  # noqa: PLC0415

    given = TemporaryCredentials("ASIAEXAMPLE", "secret", "session", datetime.now(UTC) + timedelta(hours=1))
    environment = environments(
        "import boto3, os, urllib.request, urllib.error\n"
        "def handler(event, context):\n"
        "  found = boto3.Session().get_credentials().get_frozen_credentials()\n"
        "  try: refused = urllib.request.urlopen(os.environ['AWS_CONTAINER_CREDENTIALS_FULL_URI']).status\n"
        "  except urllib.error.HTTPError as error: refused = error.code\n"
        "  return [*found[:3], refused, 'AWS_ACCESS_KEY_ID' in os.environ]",
        credentials=EndpointCredentials(lambda: given),
    )
    assert returned(invoke(environment)) == ["ASIAEXAMPLE", "secret", "session", 403, False]


@pytest.mark.conformance(52)
def test_credentials_are_renewed_before_they_expire(environments: Environments) -> None:
    from datetime import UTC, datetime, timedelta  # noqa: PLC0415

    lengths = iter([timedelta(minutes=12), timedelta(hours=1)])
    made: list[str] = []

    def renew() -> TemporaryCredentials:
        made.append(f"ASIA{len(made)}")
        return TemporaryCredentials(made[-1], "secret", "session", datetime.now(UTC) + next(lengths))

    environment = environments(
        "import boto3\ndef handler(event, context): return boto3.Session().get_credentials().access_key",
        credentials=EndpointCredentials(renew),
    )
    assert returned(invoke(environment)) == "ASIA1"


def wait_for_line(log: MemoryLog, line: str) -> None:
    deadline = time.monotonic() + 10
    while line not in log.text:
        assert time.monotonic() < deadline, log.text
        time.sleep(0.01)


def interrupt_when_ready(
    environment: ExecutionEnvironment, log: MemoryLog, *, grace_s: float, event: Any = None
) -> Outcome:
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(invoke(environment, event)))
    thread.start()
    wait_for_line(log, "ready")
    environment.interrupt(grace_s)
    thread.join(15)
    return outcomes[0]


def test_an_interrupted_handler_that_finishes_within_its_grace_has_finished(
    environments: Environments, log: MemoryLog
) -> None:
    environment = environments(
        "import signal, time\n"
        "def handler(event, context):\n"
        "  asked = []\n"
        "  signal.signal(signal.SIGTERM, lambda *_: asked.append(1))\n"
        "  print('ready', flush=True)\n"
        "  while not asked: time.sleep(0.01)\n"
        "  return 'saved'"
    )
    outcome = interrupt_when_ready(environment, log, grace_s=10)
    assert returned(outcome) == "saved"


@pytest.mark.parametrize("about", ["pass", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"], ids=["no handler", "deaf"])
@pytest.mark.parametrize(("works_s", "grace_s"), [(0.5, 10), (60, 0.5)], ids=["in time", "too slow"])
def test_a_handler_that_knows_nothing_of_sigterm_may_finish_within_its_grace(
    environments: Environments, log: MemoryLog, about: str, works_s: float, grace_s: float
) -> None:
    environment = environments(
        f"import signal, time\ndef handler(event, context):\n  {about}\n  print('ready', flush=True)\n"
        "  time.sleep(event)\n  return 'done'"
    )
    outcome = interrupt_when_ready(environment, log, grace_s=grace_s, event=works_s)
    if works_s < grace_s:
        assert returned(outcome) == "done"
    else:
        assert errored(outcome).family == "interrupted"


def test_a_setuid_program_makes_nobody_root(environments: Environments) -> None:
    environment = environments(
        "import os\n"
        "def handler(event, context):\n"
        "  status = open('/proc/self/status').read().split()\n"
        "  return status[status.index('NoNewPrivs:') + 1]"
    )
    assert returned(invoke(environment)) == "1"


def test_a_runtime_that_asks_for_the_next_event_unanswered_has_failed(environments: Environments) -> None:
    environment = environments(
        "import os, urllib.request\n"
        "def handler(event, context):\n"
        "  api = os.environ['AWS_LAMBDA_RUNTIME_API']\n"
        "  urllib.request.urlopen(f'http://{api}/2018-06-01/runtime/invocation/next')"
    )
    assert "asked for the next event unanswered" in errored(invoke(environment)).message


def test_an_error_after_sigterm_is_an_interruption_and_no_failure(environments: Environments, log: MemoryLog) -> None:
    environment = environments(
        "import signal, time\n"
        "def stop(*_): raise RuntimeError('told to stop')\n"
        "def handler(event, context):\n"
        "  signal.signal(signal.SIGTERM, stop)\n"
        "  print('ready', flush=True)\n"
        "  time.sleep(60)"
    )
    outcome = interrupt_when_ready(environment, log, grace_s=10)
    assert errored(outcome).family == "interrupted"


def test_a_log_that_takes_nothing_does_not_keep_the_environment_from_ending(
    environments: Environments, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("immortal_runner.execution.environment._STOP_S", 0.5)
    entered, closed = threading.Event(), threading.Event()

    def stuck(_data: bytes) -> None:
        entered.set()
        closed.wait()

    environment = environments("def handler(event, context): print('x' * 1_000_000)")
    monkeypatch.setattr(log, "write", stuck)
    monkeypatch.setattr(log, "close", closed.set)
    thread = threading.Thread(target=lambda: invoke(environment), daemon=True)
    thread.start()
    assert entered.wait(10)
    stopper = threading.Thread(target=environment.stop, daemon=True)
    stopper.start()
    stopper.join(20)
    assert closed.is_set()
    assert not stopper.is_alive()
    thread.join(10)
    assert not thread.is_alive()
    assert errored(invoke(environment)).family == "interrupted"


def test_a_log_that_takes_nothing_does_not_hold_up_an_interruption(
    rooms: Environments, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MAX_WAITING_BYTES", 100_000)
    opened = threading.Event()
    stream = CloudWatchLogStream(lambda _batch: 0 * opened.wait(), group=log.group, name=log.name)
    monkeypatch.setattr(log, "write", stream.write)
    monkeypatch.setattr(log, "lose_patience", stream.lose_patience)
    environment = rooms("def handler(event, context):\n  while True: print('x' * 10_000, flush=True)")
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(invoke(environment)), daemon=True)
    thread.start()
    while stream._waiting_bytes < logs.MAX_WAITING_BYTES:
        stream.flush(0.01)
    environment.interrupt(0.1)
    thread.join(20)
    opened.set()
    stream.close()
    assert [errored(each).family for each in outcomes] == ["interrupted"]


def test_nothing_is_left_behind(environments: Environments) -> None:
    mark = f"{time.time_ns()}"
    environment = environments(
        f"import subprocess\ndef handler(e, c): subprocess.Popen(['sleep', '7{mark[-6:]}'], start_new_session=True)"
    )
    invoke(environment)
    root = Path(environment._root)
    environment.stop()
    assert not root.exists()
    assert not [each for each in psutil.process_iter(["cmdline"]) if f"7{mark[-6:]}" in (each.info["cmdline"] or [])]
