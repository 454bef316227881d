import base64
import concurrent.futures
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from immortal_local.functions.payloads import MAX_ASYNCHRONOUS_BYTES, MAX_SYNCHRONOUS_BYTES, check_payload
from immortal_local.scratch import open_scratch
from immortal_local.wire import ApiError
from support.bench import Bench, Eventually, zip_files

REFLECT = """
import os

CALLS = []

def handler(event, context):
    CALLS.append(1)
    print("line of", event.get("name"))
    return {
        "event": event,
        "arn": context.invoked_function_arn,
        "id": context.aws_request_id,
        "version": context.function_version,
        "left_ms": context.get_remaining_time_in_millis(),
        "calls": len(CALLS),
        "variables": {name: os.environ.get(name) for name in ("COLOUR", "AWS_ENDPOINT_URL", "AWS_REGION")},
        "client": context.client_context and context.client_context.custom,
    }
"""

OUTLIVES_ITSELF = """
import os
import boto3

def handler(event, context):
    functions = boto3.client("lambda")
    print("works")
    while True:
        try:
            functions.get_function(FunctionName=context.function_name)
        except functions.exceptions.ResourceNotFoundException:
            return os.path.exists(__file__)
"""

WHO = """
import boto3

def handler(event, context):
    return boto3.client("sts").get_caller_identity()["Arn"]
"""

SLOW = """
import time

def handler(event, context):
    print("asleep", flush=True)
    time.sleep(event["sleep_s"])
    return "awake"
"""


def invoke(bench: Bench, name: str, event: Any = None, **more: Any) -> dict[str, Any]:
    answered = bench.functions.invoke(FunctionName=name, Payload=json.dumps(event or {}), **more)
    return {**answered, "Payload": json.loads(answered["Payload"].read() or b"null")}


def test_a_function_runs_with_its_own_environment_and_context(bench: Bench) -> None:
    name = bench.make_function(REFLECT, Environment={"Variables": {"COLOUR": "blue"}}, Timeout=9)

    answered = invoke(bench, name, {"name": "x"})

    said = answered["Payload"]
    assert (answered["StatusCode"], answered["ExecutedVersion"]) == (200, "$LATEST")
    assert "FunctionError" not in answered
    assert said["event"] == {"name": "x"}
    assert said["arn"] == f"arn:aws:lambda:us-east-1:{bench.local.account}:function:{name}"
    assert said["id"] == answered["ResponseMetadata"]["RequestId"]
    assert 8000 < said["left_ms"] <= 9000
    assert said["variables"] == {
        "COLOUR": "blue",
        "AWS_ENDPOINT_URL": bench.local.endpoint,
        "AWS_REGION": "us-east-1",
    }


def test_an_environment_stays_warm_until_the_function_changes(bench: Bench) -> None:
    name = bench.make_function(REFLECT)

    calls = [invoke(bench, name)["Payload"]["calls"] for _ in range(3)]
    bench.functions.update_function_configuration(FunctionName=name, Environment={"Variables": {"COLOUR": "red"}})
    after = invoke(bench, name)["Payload"]

    assert calls == [1, 2, 3]
    assert (after["calls"], after["variables"]["COLOUR"]) == (1, "red")


def test_new_code_runs_at_once(bench: Bench) -> None:
    name = bench.make_function("def handler(event, context):\n    return 'old'\n")
    assert invoke(bench, name)["Payload"] == "old"

    code = zip_files({"app.py": "def handler(event, context):\n    return 'new'\n"})
    bench.functions.update_function_code(FunctionName=name, ZipFile=code)

    assert invoke(bench, name)["Payload"] == "new"


def test_the_log_tail_comes_with_the_answer_on_demand(bench: Bench) -> None:
    name = bench.make_function(REFLECT)

    tail = base64.b64decode(invoke(bench, name, {"name": "x"}, LogType="Tail")["LogResult"]).decode()

    assert "line of x" in tail
    assert "REPORT RequestId: " in tail
    assert "LogResult" not in invoke(bench, name)


def test_the_log_reaches_the_functions_log_group(bench: Bench, eventually: Eventually) -> None:
    name = bench.make_function(REFLECT)
    request_id = invoke(bench, name, {"name": "x"})["ResponseMetadata"]["RequestId"]

    eventually(lambda: any(line.startswith("REPORT") for line in bench.log_lines(name)))
    lines = bench.log_lines(name)
    words = [line.split()[0] for line in lines]
    assert [word for word in words if word in {"START", "line", "END", "REPORT"}] == ["START", "line", "END", "REPORT"]
    assert f"START RequestId: {request_id} Version: $LATEST" in lines[words.index("START")]


def test_a_function_calls_the_local_aws_under_its_own_role(bench: Bench) -> None:
    name = bench.make_function(WHO, Timeout=20)

    role = bench.role_arn.rpartition("/")[2]
    assert invoke(bench, name)["Payload"] == f"arn:aws:sts::{bench.local.account}:assumed-role/{role}/{name}"


def test_layers_lie_below_opt_the_later_over_the_earlier(bench: Bench) -> None:
    zips = [zip_files({"python/colours.py": f"BLUE = {number}\n"}) for number in (1, 2)]
    layers = [
        bench.functions.publish_layer_version(LayerName=bench.new_name("layer"), Content={"ZipFile": zipped})[
            "LayerVersionArn"
        ]
        for zipped in zips
    ]
    code = "import colours\n\ndef handler(event, context):\n    return [colours.BLUE, colours.__file__]\n"

    name = bench.make_function(code, Layers=layers)

    assert invoke(bench, name)["Payload"] == [2, "/opt/python/colours.py"]


def test_an_exception_is_a_function_error(bench: Bench) -> None:
    name = bench.make_function("def handler(event, context):\n    raise ValueError('row 17 is bad')\n")

    answered = invoke(bench, name)

    assert (answered["StatusCode"], answered["FunctionError"]) == (200, "Unhandled")
    assert answered["Payload"]["errorMessage"] == "row 17 is bad"
    assert answered["Payload"]["errorType"] == "ValueError"


def test_a_function_out_of_time_is_killed_and_says_so_in_lambdas_words(bench: Bench) -> None:
    name = bench.make_function(SLOW, Timeout=1)
    began = time.monotonic()

    answered = invoke(bench, name, {"sleep_s": 60})

    assert time.monotonic() - began < 5
    request_id = answered["ResponseMetadata"]["RequestId"]
    assert answered["FunctionError"] == "Unhandled"
    assert answered["Payload"] == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {request_id} Error: Task timed out after 1.00 seconds",
    }
    assert invoke(bench, name, {"sleep_s": 0})["Payload"] == "awake"


def test_a_result_that_is_too_big_is_an_error(bench: Bench) -> None:
    name = bench.make_function("def handler(event, context):\n    return 'x' * 6_291_556\n")

    answered = invoke(bench, name)

    assert answered["FunctionError"] == "Unhandled"
    assert answered["Payload"] == {
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
        "errorType": "Function.ResponseSizeTooLarge",
    }


def test_versions_and_aliases_run_what_they_name(bench: Bench) -> None:
    functions = bench.functions
    name = bench.make_function(REFLECT)
    functions.publish_version(FunctionName=name)
    functions.create_alias(FunctionName=name, Name="live", FunctionVersion="1")

    answered = invoke(bench, name, Qualifier="live")

    assert answered["ExecutedVersion"] == answered["Payload"]["version"] == "1"
    assert answered["Payload"]["arn"].endswith(f"{name}:live")


def test_an_alias_sends_its_share_to_another_version(bench: Bench) -> None:
    functions = bench.functions
    name = bench.make_function(REFLECT)
    functions.publish_version(FunctionName=name)
    functions.update_function_configuration(FunctionName=name, Timeout=4)
    functions.publish_version(FunctionName=name)
    functions.create_alias(
        FunctionName=name,
        Name="live",
        FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 1.0}},
    )

    assert invoke(bench, name, Qualifier="live")["ExecutedVersion"] == "2"


def test_a_dry_run_runs_nothing(bench: Bench) -> None:
    name = bench.make_function("raise SystemExit('I ran')\n")

    answered = bench.functions.invoke(FunctionName=name, InvocationType="DryRun")

    assert (answered["StatusCode"], answered["Payload"].read()) == (204, b"")
    assert bench.log_lines(name) == []


def test_the_client_context_reaches_the_handler(bench: Bench) -> None:
    name = bench.make_function(REFLECT)
    context = base64.b64encode(json.dumps({"custom": {"colour": "blue"}}).encode()).decode()

    assert invoke(bench, name, ClientContext=context)["Payload"]["client"] == {"colour": "blue"}
    with pytest.raises(ClientError, match="valid Base64-encoded JSON object"):
        invoke(bench, name, ClientContext="%%%")


def test_an_unknown_function_is_named_with_its_qualifier(bench: Bench) -> None:
    arn = f"arn:aws:lambda:us-east-1:{bench.local.account}:function:nobody:"

    with pytest.raises(ClientError) as error:
        invoke(bench, "nobody")

    assert error.value.response["Error"]["Message"] == f"Function not found: {arn}$LATEST"


def test_more_at_once_than_reserved_is_throttled(bench: Bench, eventually: Eventually) -> None:
    name = bench.make_function(SLOW, Timeout=10)
    bench.functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)

    with concurrent.futures.ThreadPoolExecutor() as threads:
        first = threads.submit(invoke, bench, name, {"sleep_s": 2})
        eventually(lambda: "asleep\n" in bench.log_lines(name))
        with pytest.raises(bench.functions.exceptions.TooManyRequestsException) as error:
            invoke(bench, name, {"sleep_s": 0})
        assert first.result()["Payload"] == "awake"

    assert error.value.response["Error"]["Message"] == "Rate Exceeded."
    response: Any = error.value.response
    assert response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"


def test_invocations_at_the_same_time_run_at_the_same_time(bench: Bench) -> None:
    name = bench.make_function(SLOW, Timeout=10)
    began = time.monotonic()

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: invoke(bench, name, {"sleep_s": 1.5}), range(4)))

    assert [answer["Payload"] for answer in answers] == ["awake"] * 4
    assert time.monotonic() - began < 4 * 1.5


def test_environments_at_the_same_time_do_not_share_their_scratch(bench: Bench) -> None:
    code = (
        "import os, pathlib, time\n\n"
        "def handler(event, context):\n"
        "    pathlib.Path('/tmp/mine').write_text(event['name'])\n"
        "    time.sleep(0.5)\n"
        "    return pathlib.Path('/tmp/mine').read_text()\n"
    )
    name = bench.make_function(code, Timeout=10)

    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda text: invoke(bench, name, {"name": text})["Payload"], "abc"))

    assert answers == ["a", "b", "c"]


def test_a_runtime_that_is_not_run_here_says_so(bench: Bench) -> None:
    name = bench.make_function(Runtime="ruby3.3")

    with pytest.raises(ClientError, match=r"runs on ruby3\.3.*immortal image build --runtime ruby3\.3") as error:
        invoke(bench, name)

    assert error.value.response["Error"]["Code"] == "InvalidRuntimeException"


def test_a_zip_that_leaves_its_folder_is_a_function_error(bench: Bench) -> None:
    name = bench.make_function(Code={"ZipFile": zip_files({"../../evil.py": "x = 1\n"})})

    answer = bench.functions.invoke(FunctionName=name)

    error = json.loads(answer["Payload"].read())
    assert answer["FunctionError"] == "Unhandled"
    assert error["errorType"] == "Runtime.InvalidZipFile"
    assert "evil.py' leaves the folder" in error["errorMessage"]


def test_the_files_of_replaced_code_are_removed(bench: Bench, eventually: Eventually) -> None:
    folder = bench.local.scratch / "code"
    others = set(folder.glob("*"))
    name = bench.make_function()
    for number in range(3):
        code = zip_files({"app.py": f"def handler(event, context):\n    return {number}\n"})
        bench.functions.update_function_code(FunctionName=name, ZipFile=code)
        assert invoke(bench, name)["Payload"] == number

    eventually(lambda: len(set(folder.glob("*")) - others) == 1)
    bench.functions.delete_function(FunctionName=name)
    eventually(lambda: not set(folder.glob("*")) - others)


def test_code_stays_while_its_last_environment_works(bench: Bench, eventually: Eventually) -> None:
    folder = bench.local.scratch / "code"
    others = set(folder.glob("*"))
    name = bench.make_function(OUTLIVES_ITSELF, Timeout=30)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        working = threads.submit(invoke, bench, name)
        eventually(lambda: "works" in "".join(bench.log_lines(name)))
        bench.functions.delete_function(FunctionName=name)
        assert working.result()["Payload"] is True
    eventually(lambda: not set(folder.glob("*")) - others)


ONE_SLEEPER = f"""
import json, sys
from immortal_local.server import LocalAws
from support.bench import TRUST, Bench

with LocalAws() as local:
    role = local.client("iam").create_role(RoleName="role", AssumeRolePolicyDocument=json.dumps(TRUST))
    bench = Bench(local, role["Role"]["Arn"], lambda kind: kind)
    bench.make_function({SLOW!r}, Timeout=900)
    bench.functions.invoke(FunctionName="function", InvocationType="Event", Payload=b'{{"sleep_s": 800}}')
    logs = local.client("logs")
    while not logs.describe_log_groups()["logGroups"]:
        pass
    print("runs", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_no_process_of_a_function_survives_the_local_aws(
    tmp_path: Path, eventually: Eventually, *, killed: bool
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ONE_SLEEPER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "runs\n"
        started = psutil.Process(process.pid).children(recursive=True)
        if killed:
            process.kill()

    assert started
    eventually(lambda: not any(child.is_running() for child in started))
    assert killed or list(tmp_path.iterdir()) == []
    with open_scratch(tmp_path) as next_scratch:
        assert list(tmp_path.iterdir()) == [next_scratch]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"n\x87", "Invalid UTF-8 start byte 0x87"),
        (b"\x99\xeb", "Unexpected character ((CTRL-CHAR, code 153)): expected a valid value"),
        (b"colour", "Unrecognized token 'colour'"),
        (b'{"a": ', "Unexpected end-of-input"),
        (b"NaN", "Non-standard token 'NaN'"),
        (b"[" * 100_000, "recursion"),
    ],
    ids=["no utf-8", "no start", "no token", "cut", "no number", "deep"],
)
def test_an_event_that_is_no_json_is_refused(payload: bytes, reason: str) -> None:
    with pytest.raises(ApiError) as error:
        check_payload(payload, asynchronous=False)

    assert error.value.code == "InvalidRequestContentException"
    assert error.value.message.startswith("Could not parse request body into json: Could not parse payload into json: ")
    assert reason in error.value.message


@pytest.mark.parametrize(
    ("limit", "asynchronous", "words"),
    [
        (MAX_SYNCHRONOUS_BYTES, False, "Request must be smaller than 6291456 bytes for the InvokeFunction operation"),
        (MAX_ASYNCHRONOUS_BYTES, True, "1048577 byte payload is too large for the Event invocation type"),
    ],
    ids=["synchronous", "asynchronous"],
)
def test_an_event_may_be_as_big_as_aws_takes_it(limit: int, words: str, *, asynchronous: bool) -> None:
    largest = b'"' + b"x" * (limit - 2) + b'"'

    assert check_payload(largest, asynchronous=asynchronous) == largest
    with pytest.raises(ApiError, match=words):
        check_payload(largest + b" ", asynchronous=asynchronous)


def test_an_event_too_big_is_answered_with_413(bench: Bench) -> None:
    name = bench.make_function()

    with pytest.raises(bench.functions.exceptions.RequestTooLargeException) as error:
        bench.functions.invoke(FunctionName=name, InvocationType="Event", Payload=b"1" * 1_048_577)

    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_no_event_is_an_empty_object() -> None:
    assert check_payload(b"", asynchronous=True) == b"{}"


def test_a_function_that_is_deleted_while_it_starts_leaves_no_log_group(bench: Bench) -> None:
    me = "os.environ['AWS_LAMBDA_FUNCTION_NAME']"
    deletes = f"import boto3, os\nboto3.client('lambda').delete_function(FunctionName={me})"
    name = bench.make_function(f"{deletes}\ndef handler(event, context):\n    print('written')\n")
    bench.functions.invoke(FunctionName=name)
    logs: Any = bench.local.client("logs")
    assert logs.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{name}")["logGroups"] == []
