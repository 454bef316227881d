"""A local AWS in another process, with the command line and boto3 pointed at it."""

import io
import json
import os
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

LOOK_AGAIN_S = 0.3
"""Between two looks at a run: each is a process, and one after the other would take a core from what is looked at."""

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}


@dataclass(frozen=True)
class Machine:
    """What a user has in front of him: a shell, boto3, and the outputs of an installation."""

    pid: int
    description: Mapping[str, str]
    environment: Mapping[str, str]
    outputs: dict[str, str] = field(default_factory=dict)
    installation: str = "immortal"

    def client(self, service: str) -> Any:
        make: Any = boto3.client
        return make(
            service,
            endpoint_url=self.description["endpoint"],
            region_name=self.description["region"],
            aws_access_key_id=self.description["access_key_id"],
            aws_secret_access_key=self.description["secret_access_key"],
        )

    def immortal(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "immortal_cli", *words]
        return subprocess.run(command, env=dict(self.environment), capture_output=True, text=True, check=False)

    def json(self, *words: str) -> list[dict[str, Any]]:
        done = self.immortal(*words, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def show(self, run_id: str) -> dict[str, Any]:
        return self.json("runs", "show", run_id, "--name", self.installation)[0]

    def create(self, name: str, code: bytes, **settings: Any) -> None:
        """Create a function as a developer does, and attach it; a setting that is None is left out."""
        role = self.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]
        functions = self.client("lambda")
        asked = {
            "FunctionName": name,
            "Runtime": "python3.13",
            "Handler": "app.handler",
            "Role": role["Arn"],
            "Timeout": 1,
            "Code": {"ZipFile": code},
            **settings,
        }
        functions.create_function(**{setting: value for setting, value in asked.items() if value is not None})
        functions.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        functions.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
        attached = self.immortal("attach", name, "--yes", "--name", self.installation)
        assert attached.returncode == 0, attached.stderr

    def invoke(self, name: str, event: Any) -> str:
        """Invoke a function asynchronously; give the request id."""
        answer = self.client("lambda").invoke(
            FunctionName=name, InvocationType="Event", Payload=json.dumps(event).encode()
        )
        assert answer["StatusCode"] == 202
        return str(answer["ResponseMetadata"]["RequestId"])

    def give_up(self, name: str, event: Any) -> str:
        """Report a failure as an on-failure destination does, without the wait for one; give the request id."""
        region, account = self.description["region"], self.description["account"]
        request_id = str(uuid.uuid4())
        record = {
            "version": "1.0",
            "requestContext": {
                "requestId": request_id,
                "functionArn": f"arn:aws:lambda:{region}:{account}:function:{name}:$LATEST",
                "condition": "RetriesExhausted",
                "approximateInvokeCount": 1,
            },
            "requestPayload": event,
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
            "responsePayload": {"errorMessage": f"{request_id} Task timed out after 1.00 seconds"},
        }
        self.client("sqs").send_message(QueueUrl=self.outputs["FailureQueueUrl"], MessageBody=json.dumps(record))
        return request_id

    def until(self, run_id: str, met: Callable[[dict[str, Any]], object], timeout_s: float = 60) -> dict[str, Any]:
        """Look at a run until it is as wanted."""
        deadline = time.monotonic() + timeout_s
        run: dict[str, Any] = {}
        while time.monotonic() < deadline:
            done = self.immortal("runs", "show", run_id, "--json", "--name", self.installation)
            if done.returncode == 0 and met(run := json.loads(done.stdout)):
                return run
            time.sleep(LOOK_AGAIN_S)
        raise AssertionError(f"{run_id} is still {run}")


def zip_of(files: Mapping[str, str], *packages: Path) -> bytes:
    """A zip of text files and of packages as they lie in a folder."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        for package in packages:
            for file in package.rglob("*.py"):
                archive.write(file, os.fspath(file.relative_to(package.parent)))
    return data.getvalue()
