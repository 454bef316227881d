"""The demo's stage: a local AWS in a process of its own, deployed with the command that a user types."""

import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from types import FrameType
from typing import Any, NoReturn, TextIO

from immortal_cli.aws import Account, open_account
from immortal_cli.errors import Failed
from immortal_cli.lifeline import VARIABLE as LIFELINE
from immortal_cli.local import name_variables
from immortal_runner.runtimes.interpreters import name_architecture

FUNCTION = "prime-search"
TIMEOUT_S = 3
MEMORY_MB = 1769
TIME_SCALE = 0.01
"""Lambda waits one and two minutes between its attempts; here 0.6 s and 1.2 s."""

_STOP_S = 20


@contextmanager
def local_aws(engine: str) -> Iterator[None]:
    """Run ``immortal local up`` and point this process at it; it doesn't outlive this process, however that ends.

    Raises:
        Failed: It doesn't come up.
    """
    theirs, ours = os.pipe()
    with (
        os.fdopen(theirs) as lifeline,
        os.fdopen(ours, "wb", buffering=0) as held,
        _ended_by_sigterm(held.close),
        _started(engine, lifeline, held.close) as process,
    ):
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise Failed("the local AWS did not come up; it has said why above")
        with _pointed_at(json.loads(line)):
            yield


@contextmanager
def _ended_by_sigterm(cut: Callable[[], None]) -> Iterator[None]:
    """Let SIGTERM end this process as an error does, so that what was started is stopped.

    Args:
        cut: Stops the local AWS. Python drops what a handler raises in some places, such as a finalizer: then whatever
            this process wants of the local AWS next fails.
    """
    told = False

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        nonlocal told
        told = True
        cut()
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if told:
            raise SystemExit(128 + signal.SIGTERM)


@contextmanager
def _started(engine: str, lifeline: TextIO, cut: Callable[[], None]) -> Iterator["subprocess.Popen[str]"]:
    """Start a local AWS that stops once its lifeline is cut, as it is when this process is gone."""
    command = [sys.executable, "-m", "immortal_cli", "local", "up", "--port", "0", "--engine", engine]
    process = subprocess.Popen(
        [*command, "--time-scale", str(TIME_SCALE)],
        env={**os.environ, LIFELINE: str(lifeline.fileno())},
        pass_fds=(lifeline.fileno(),),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        cut()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def _pointed_at(description: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        os.environ.pop(name, None)
    os.environ.update(name_variables(description))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run_command(*arguments: str) -> None:
    """Run one of our own commands as a user would; what it says goes to stderr.

    Raises:
        Failed: The command failed.
    """
    command = [sys.executable, "-m", "immortal_cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"immortal {' '.join(arguments)} failed:\n{done.stderr.strip()}")


def create_function(account: Account) -> None:
    """Create the function as a developer would: a role, a zip, a limit of three seconds."""
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = account.client("iam").create_role(RoleName=FUNCTION, AssumeRolePolicyDocument=document)["Role"]["Arn"]
    functions = account.client("lambda")
    functions.create_function(
        FunctionName=FUNCTION,
        Runtime="python3.13",
        Handler="prime_search.handler",
        Role=role,
        Timeout=TIMEOUT_S,
        MemorySize=MEMORY_MB,
        Architectures=[name_architecture()],
        Code={"ZipFile": _zip_source()},
    )
    functions.get_waiter("function_active_v2").wait(FunctionName=FUNCTION, WaiterConfig={"Delay": 1})


def invoke(account: Account, event: Mapping[str, Any]) -> str:
    """Invoke the function asynchronously; give the request id."""
    answer = account.client("lambda").invoke(
        FunctionName=FUNCTION, InvocationType="Event", Payload=json.dumps(event).encode()
    )
    request_id: str = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    return request_id


def open_stage() -> Account:
    """The account that :func:`local_aws` points to."""
    return open_account()


def _zip_source() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("prime_search.py", files("immortal_cli.demo").joinpath("prime_search.py").read_bytes())
    return data.getvalue()
