"""Handlers that do what no handler should: none hangs the environment, and the one that comes next finds it whole."""

import json
import threading
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from immortal_runner.execution.environment import ExecutionEnvironment
from immortal_runner.execution.outcomes import Errored, Outcome, Returned
from immortal_runner.runtime_api.invocations import Invocation
from support.functions import ARN, Environments, MemoryLog

API = "os.environ['AWS_LAMBDA_RUNTIME_API']"
CALLS = f"""
import http.client, json, os, signal, socket, subprocess, sys, threading, time

def call(method, path, body=None):
    connection = http.client.HTTPConnection({API})
    connection.request(method, '/2018-06-01/runtime' + path, body)
    return connection.getresponse().status

def handler(event, context):
    if event == 'what became of you?':
        return 'well'
"""


@dataclass(frozen=True)
class Hostile:
    """What a handler does, and what must become of it: what it returns, or the type of its error."""

    does: str
    returns: Any = None
    errs: str | tuple[str, ...] = ()


DEEDS = {
    "forks and leaves the child": Hostile(
        "if os.fork() == 0:\n    time.sleep(60)\n    os._exit(0)\nreturn 2", returns=2
    ),
    "daemonises": Hostile(
        "subprocess.Popen(['sh', '-c', 'setsid sleep 61 & exit 0'], start_new_session=True).wait()\nreturn 3", returns=3
    ),
    "leaves threads": Hostile(
        "[threading.Thread(target=time.sleep, args=(62,), daemon=bool(at % 2)).start() for at in range(9)]\nreturn 4",
        returns=4,
    ),
    "closes its output": Hostile("os.close(1)\nos.close(2)\nreturn 5", returns=5),
    "closes every descriptor": Hostile("os.closerange(0, 1024)\nreturn 6", returns=6, errs="Runtime.ExitError"),
    "changes its directory": Hostile("os.chdir('/')\nreturn os.getcwd()", returns="/"),
    "kills its parent": Hostile(
        "try:\n    os.kill(os.getppid(), signal.SIGKILL)\n    time.sleep(60)\nexcept PermissionError:\n    return 7",
        returns=7,
        errs="Runtime.ExitError",
    ),
    "binds our port": Hostile(
        f"host, port = {API}.split(':')\nsocket.create_server((host, int(port)))", errs="OSError"
    ),
    "posts twice": Hostile(
        "assert call('POST', f'/invocation/{context.aws_request_id}/response', '8') == 202\nreturn 9",
        returns=8,
    ),
    "answers for another": Hostile("return call('POST', '/invocation/of-another/response', '10')", returns=400),
    "reports an init error in the middle": Hostile(
        """call('POST', '/init/error', '{"errorType": "Mine", "errorMessage": "late"}')\nreturn 11""",
        returns=11,
        errs=("Mine", "Runtime.ExitError"),
    ),
    "asks for the next event itself": Hostile(
        "threading.Thread(target=call, args=('GET', '/invocation/next'), daemon=True).start()\n"
        "time.sleep(0.2)\nreturn 12",
        returns=12,
        errs="Runtime.ExitError",
    ),
    "sends garbage to the Runtime API": Hostile(
        f"host, port = {API}.split(':')\n"
        "for garbage in (b'\\0' * 99, b'GET', b'POST / HTTP/1.1\\r\\nContent-Length: x\\r\\n\\r\\n', os.urandom(99)):\n"
        "    socket.create_connection((host, int(port))).sendall(garbage)\nreturn 13",
        returns=13,
    ),
    "keeps forty connections open": Hostile(
        f"host, port = {API}.split(':')\n"
        "globals()['kept'] = [socket.create_connection((host, int(port))) for _ in range(40)]\nreturn 14",
        returns=14,
    ),
    "returns what is no JSON": Hostile("return {1, 2}", errs="Runtime.MarshalError"),
    "raises what can't be shown": Hostile(
        "class Mute(Exception):\n    def __str__(self): raise ValueError\nraise Mute",
        errs=("Mute", "Runtime.ExitError"),
    ),
    "ends its interpreter from a thread": Hostile(
        "threading.Thread(target=os._exit, args=(5,)).start()\ntime.sleep(60)", errs="Runtime.ExitError"
    ),
    "aborts": Hostile("os.abort()", errs="Runtime.ExitError"),
    "ignores every signal": Hostile(
        "for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):\n"
        "    signal.signal(number, signal.SIG_IGN)\nreturn 15",
        returns=15,
    ),
    "reads its input": Hostile("return sys.stdin.read()", returns=""),
}


def ask(environment: ExecutionEnvironment, event: str, *, timeout_s: float | None = None) -> Outcome:
    request_id = f"7c1f0b52-4b0e-4a6e-9d5b-{abs(hash(event)) % 10**12:012}"
    return environment.invoke(Invocation(request_id, json.dumps(event).encode(), ARN), timeout_s=timeout_s)


def hostile(deed: str) -> str:
    return CALLS + "".join(f"    {line}\n" for line in deed.splitlines())


@pytest.mark.parametrize("deed", DEEDS)
def test_whatever_a_handler_does_the_next_event_finds_all_well(environments: Environments, deed: str) -> None:
    environment, expected = environments(hostile(DEEDS[deed].does)), DEEDS[deed]
    outcome = ask(environment, "do it", timeout_s=20)
    if isinstance(outcome, Returned):
        assert json.loads(outcome.result.read()) == expected.returns
    else:
        assert outcome.error_type in expected.errs
    well = ask(environment, "what became of you?", timeout_s=20)
    assert isinstance(well, Returned), well
    assert json.loads(well.result.read()) == "well"
    environment.stop()
    assert not left_behind()


@pytest.mark.parametrize(
    "deed", ["time.sleep(99)", "os.kill(os.getpid(), signal.SIGSTOP)", "while True: pass"], ids=str
)
def test_a_handler_that_never_answers_is_stopped(environments: Environments, deed: str) -> None:
    environment = environments(hostile(deed))
    threading.Timer(0.5, environment.interrupt, args=(0.2,)).start()
    outcome = ask(environment, "go")
    assert isinstance(outcome, Errored)
    assert outcome.family == "interrupted"


def test_a_flood_of_output_is_kept_whole_and_bounded(environments: Environments, log: MemoryLog) -> None:
    environment = environments(hostile("for _ in range(64): os.write(1, b'x' * (1 << 20))\nreturn 1"))
    before = psutil.Process().memory_info().rss
    sizes: list[int] = []
    log.write = lambda data: sizes.append(len(data))  # type: ignore[method-assign]
    assert isinstance(ask(environment, "flood"), Returned)
    environment.deliver_log(10)
    assert sum(sizes) >= 64 << 20
    assert psutil.Process().memory_info().rss - before < 32 << 20


def left_behind() -> list[str]:
    """Sleeping processes of ours that outlived their environment."""
    mine = psutil.Process().children(recursive=True)
    return [
        " ".join(each.cmdline()) for each in mine if "sleep" in each.name() or "bootstrap" in " ".join(each.cmdline())
    ]
