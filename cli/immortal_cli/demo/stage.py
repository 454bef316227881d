"""The demo's stage: a local AWS in a process of its own, deployed with the command that a user types."""

import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

from immortal_cli.aws import Account, open_account
from immortal_cli.errors import Failed
from immortal_cli.local import name_variables

FUNCTION = "prime-search"
TIMEOUT_S = 3
MEMORY_MB = 1769
TIME_SCALE = 0.01
"""Lambda waits one and two minutes between its attempts; here 0.6 s and 1.2 s."""

_STOP_S = 20


@contextmanager
def local_aws(engine: str) -> Iterator[Mapping[str, str]]:
    """Run ``immortal local up`` and point this process at it.

    Raises:
        Failed: It doesn't come up.
    """
    command = [sys.executable, "-m", "immortal_cli", "local", "up", "--port", "0", "--engine", engine]
    process = subprocess.Popen(
        [*command, "--time-scale", str(TIME_SCALE)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    before = dict(os.environ)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise Failed("the local AWS did not come up; it has said why above")
        description: dict[str, str] = json.loads(line)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            os.environ.pop(name, None)
        os.environ.update(name_variables(description))
        yield description
    finally:
        os.environ.clear()
        os.environ.update(before)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()


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
