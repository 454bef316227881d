"""The main job from the command line: a function runs out of its time and is finished anyway."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from immortal_local.server import LocalAws
from support.bench import TRUST, zip_files
from support.commands import immortal

COUNTS = """
import time

def handler(event, context):
    print("counting to", event["seconds"], flush=True)
    time.sleep(event["seconds"])
    if event.get("fails"):
        raise ValueError("row 17 is bad")
    return {"counted": event["seconds"], "request_id": context.aws_request_id}
"""


@pytest.fixture(scope="module")
def invoke(deployed: dict[str, Any], local: LocalAws) -> Callable[[dict[str, Any]], str]:
    """Invoke an attached function that may take one second; give the request id."""
    del deployed
    role = local.client("iam").create_role(RoleName="counter", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]
    functions = local.client("lambda")
    functions.create_function(
        FunctionName="counter",
        Runtime="python3.13",
        Role=role["Arn"],
        Handler="app.handler",
        Timeout=1,
        Code={"ZipFile": zip_files({"app.py": COUNTS})},
    )
    functions.get_waiter("function_active_v2").wait(FunctionName="counter", WaiterConfig={"Delay": 1})
    functions.put_function_event_invoke_config(FunctionName="counter", MaximumRetryAttempts=0)
    assert immortal("attach", "counter", "--yes").code == 0

    def invoke(event: dict[str, Any]) -> str:
        answer = functions.invoke(FunctionName="counter", InvocationType="Event", Payload=json.dumps(event))
        return str(answer["ResponseMetadata"]["RequestId"])

    return invoke


def only(*words: str) -> dict[str, Any]:
    (line,) = immortal(*words, "--json").lines
    return dict(line)


def test_a_function_that_ran_out_of_time_is_finished_as_itself(invoke: Callable[[dict[str, Any]], str]) -> None:
    request_id = invoke({"seconds": 2})
    answer = immortal("runs", "wait", request_id, "--timeout", "60", "--json")
    assert answer.code == 0, answer.err
    (run,) = answer.lines
    assert run["result"] == {"counted": 2, "request_id": request_id}
    assert (run["function"], run["attempt"], run["failure"]["class"]) == ("counter", 1, "timeout")
    logged = immortal("runs", "logs", request_id, "--follow").out.splitlines()
    assert "counting to 2" in logged
    assert logged[0].startswith(f"START RequestId: {request_id}")


def test_a_function_that_fails_for_good_keeps_its_own_last_word(invoke: Callable[[dict[str, Any]], str]) -> None:
    request_id = invoke({"seconds": 0, "fails": True})
    assert immortal("runs", "wait", request_id, "--timeout", "60").code == 1
    run = only("runs", "show", request_id)
    assert run["status"] == "error"
    assert (run["error"]["type"], run["error"]["message"]) == ("ValueError", "row 17 is bad")


def test_a_message_that_is_no_letter_is_parked_with_its_reason(
    invoke: Callable[[dict[str, Any]], str], deployed: dict[str, Any], local: LocalAws
) -> None:
    del invoke
    message = local.client("sqs").send_message(QueueUrl=deployed["FailureQueueUrl"], MessageBody="hello?")["MessageId"]
    assert immortal("runs", "wait", message, "--timeout", "60").code == 1
    run = only("runs", "show", message)
    assert run["status"] == "parked"
    assert "no record of a failed invocation" in run["reason"]


def test_a_redriven_run_is_launched_again_by_itself(invoke: Callable[[dict[str, Any]], str], local: LocalAws) -> None:
    request_id = invoke({"seconds": 0, "fails": True})
    assert immortal("runs", "wait", request_id, "--timeout", "60").code == 1
    mended = zip_files({"app.py": COUNTS.replace("raise ValueError", "print")})
    local.client("lambda").update_function_code(FunctionName="counter", ZipFile=mended)
    assert immortal("runs", "redrive", request_id, "--yes").code == 0
    answer = immortal("runs", "wait", request_id, "--timeout", "60", "--json")
    assert answer.code == 0, answer.lines
    (run,) = answer.lines
    assert (run["status"], run["attempt"], run["error"]) == ("complete", 2, None)
