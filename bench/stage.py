"""An installation on a local AWS, with one function attached."""

import io
import json
import os
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner

from immortal_cli.local import name_variables
from immortal_cli.main import main
from immortal_local.server import LocalAws

FUNCTION = "measured"


@dataclass(frozen=True, slots=True)
class Stage:
    local: LocalAws
    outputs: Mapping[str, str]
    function_arn: str
    role_id: str


@contextmanager
def stage(code: str, *, timeout_s: int = 1) -> Iterator[Stage]:
    """Deploy, create a function of some code without retries, attach it."""
    with LocalAws() as local:
        os.environ.update(name_variables(local.describe()))
        outputs = json.loads(command("deploy", "--json"))
        functions = local.client("lambda")
        role = local.client("iam").create_role(RoleName=FUNCTION, AssumeRolePolicyDocument='{"Statement": []}')
        made = functions.create_function(
            FunctionName=FUNCTION,
            Runtime="python3.13",
            Handler="app.handler",
            Role=role["Role"]["Arn"],
            Timeout=timeout_s,
            Code={"ZipFile": zipped(code)},
        )
        functions.get_waiter("function_active_v2").wait(FunctionName=FUNCTION, WaiterConfig={"Delay": 1})
        functions.put_function_event_invoke_config(FunctionName=FUNCTION, MaximumRetryAttempts=0)
        command("attach", FUNCTION, "--yes")
        yield Stage(local, outputs, made["FunctionArn"], role["Role"]["RoleId"])


def command(*arguments: str) -> str:
    """Run a command of ours; give what it answers."""
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def zipped(code: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("app.py", code)
    return data.getvalue()


def dead_letter(request_id: str, on: Stage) -> dict[str, Any]:
    """A record as the dispatcher is given it."""
    attributes = {
        "RequestID": ("String", request_id),
        "ErrorCode": ("Number", "200"),
        "ErrorMessage": ("String", f"RequestId: {request_id} Error: Task timed out after 1.00 seconds"),
    }
    return {
        "messageId": request_id,
        "body": "{}",
        "attributes": {
            "SenderId": f"{on.role_id}:awslambda_1_2",
            "SentTimestamp": str(time.time_ns() // 1_000_000),
            "ApproximateReceiveCount": "1",
        },
        "messageAttributes": {
            name: {"dataType": kind, "stringValue": value} for name, (kind, value) in attributes.items()
        },
        "eventSourceARN": on.outputs["FailureQueueArn"],
    }
