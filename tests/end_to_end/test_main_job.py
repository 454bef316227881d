"""The main job, whole: real time limits, real dead letters, real tasks, watched from outside."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import docker
import packaging
import psutil
import pytest

from immortal_runner.runtimes.node import client_files, client_version, find_node
from immortal_runner.runtimes.table import find_runtime
from support.machine import Machine, zip_of
from support.needs import need

NODE = find_runtime("nodejs22.x")

STRANGER = """
import os, time
import boto3, packaging, words

def handler(event, context):
    began = context.get_remaining_time_in_millis()
    print("working on", event["job"])
    time.sleep(2.5)
    s3 = boto3.client("s3")
    s3.put_object(Bucket=os.environ["BUCKET"], Key=event["job"], Body=words.GREETING.encode())
    return {
        "job": event["job"],
        "request_id": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "package": packaging.__version__,
        "layer_file": open("/opt/data/words.txt").read(),
        "home": [os.getcwd(), __file__],
        "user": os.getuid(),
        "limited": began < 1_000_000,
        "role": boto3.client("sts").get_caller_identity()["Arn"],
    }
"""


def stranger(machine: Machine, name: str) -> None:
    """A function with a layer, variables and a package of somebody else's."""
    machine.client("s3").create_bucket(Bucket=f"results-of-{name}")
    files = {"python/words.py": "GREETING = 'finished anyway'", "data/words.txt": "from the layer"}
    layer = machine.client("lambda").publish_layer_version(LayerName=f"l-{name}", Content={"ZipFile": zip_of(files)})
    machine.create(
        name,
        zip_of({"app.py": STRANGER}, Path(packaging.__file__).parent),
        Layers=[layer["LayerVersionArn"]],
        Environment={"Variables": {"BUCKET": f"results-of-{name}"}},
    )


def check_stranger(machine: Machine, name: str) -> dict[str, Any]:
    request_id = machine.invoke(name, {"job": "j-1"})
    waited = machine.immortal("runs", "wait", request_id, "--timeout", "60", "--json")
    assert waited.returncode == 0, waited.stdout + waited.stderr
    run: dict[str, Any] = json.loads(waited.stdout)
    assert (run["status"], run["function"], run["failure"]["class"]) == ("complete", name, "timeout")
    assert (run["kind"], run["run_id"], run["attempt"]) == ("rerun", request_id, 1)
    region, account = machine.description["region"], machine.description["account"]
    assert run["result"] == {
        "job": "j-1",
        "request_id": request_id,
        "arn": f"arn:aws:lambda:{region}:{account}:function:{name}",
        "package": version("packaging"),
        "layer_file": "from the layer",
        "home": ["/var/task", "/var/task/app.py"],
        "user": 993,
        "limited": False,
        "role": f"arn:aws:sts::{account}:assumed-role/{name}/{name}",
    }
    stored = machine.client("s3").get_object(Bucket=f"results-of-{name}", Key="j-1")["Body"].read()
    assert stored == b"finished anyway"
    assert "working on j-1" in machine.immortal("runs", "logs", request_id).stdout
    return run


def test_a_strangers_function_times_out_and_completes(machine: Machine) -> None:
    stranger(machine, "stranger")
    check_stranger(machine, "stranger")


@pytest.mark.docker
def test_a_strangers_function_completes_in_a_container(docker_machine: Machine) -> None:
    stranger(docker_machine, "stranger")
    check_stranger(docker_machine, "stranger")


COUNTS = """
import os, boto3

def handler(event, context):
    if context.get_remaining_time_in_millis() < 1_000_000:
        raise RuntimeError("not on Lambda")
    key = {"id": {"S": f"{os.environ['AWS_LAMBDA_FUNCTION_NAME']}/{event['number']}"}}
    boto3.client("dynamodb").update_item(
        TableName="counts", Key=key, UpdateExpression="ADD times :one", ExpressionAttributeValues={":one": {"N": "1"}}
    )
    return event["number"]
"""


def test_a_hundred_letters_with_duplicates_are_finished_once_each(machine: Machine) -> None:
    tables, queues = machine.client("dynamodb"), machine.client("sqs")
    tables.create_table(
        TableName="counts",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    code = zip_of({"app.py": COUNTS})
    for number in range(10):
        machine.create(f"counter-{number}", code)
    events = [(f"counter-{number % 10}", {"number": number}) for number in range(100)]
    with ThreadPoolExecutor(8) as threads:
        request_ids = list(threads.map(lambda each: machine.invoke(*each), events))
        list(threads.map(lambda each: send_again(machine, queues, *each), zip(request_ids, events, strict=True)))
    waited = machine.immortal("runs", "wait", *request_ids, "--timeout", "110", "--json")
    assert waited.returncode == 0, waited.stdout[-2000:]
    runs = [json.loads(line) for line in waited.stdout.splitlines()]
    assert sorted(run["run_id"] for run in runs) == sorted(request_ids)
    assert {(run["status"], run["attempt"]) for run in runs} == {("complete", 1)}
    found = [item for page in tables.get_paginator("scan").paginate(TableName="counts") for item in page["Items"]]
    assert sorted((item["id"]["S"], item["times"]["N"]) for item in found) == sorted(
        (f"{name}/{event['number']}", "1") for name, event in events
    )


def send_again(machine: Machine, queues: Any, request_id: str, each: tuple[str, Any]) -> None:
    """Report the same failure a second time, as an on-failure destination beside the dead-letter queue does."""
    name, event = each
    region, account = machine.description["region"], machine.description["account"]
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
        "responsePayload": {"errorType": "RuntimeError", "errorMessage": "not on Lambda"},
    }
    for _ in range(2):
        queues.send_message(QueueUrl=machine.outputs["FailureQueueUrl"], MessageBody=json.dumps(record))


SLEEPS = zip_of({"app.py": "import time\ndef handler(event, context): time.sleep(60)"})


def test_a_killed_runner_leaves_a_record_that_says_so(machine: Machine) -> None:
    machine.create("sleeper", SLEEPS)
    request_id = machine.invoke("sleeper", {})
    machine.until(request_id, lambda run: run["handler_at"])
    (runner,) = [
        process
        for process in psutil.Process(machine.pid).children(recursive=True)
        if "immortal_runner" in process.cmdline() and process.environ().get("IMMORTAL_RUN_ID") == request_id
    ]
    runner.kill()
    run = machine.until(request_id, lambda run: run["status"] == "parked")
    assert "exit code 137" in run["reason"]
    assert "SIGKILL" in run["reason"]
    assert run["result"] is None
    assert machine.immortal("runs", "wait", request_id).returncode == 1


@pytest.mark.docker
def test_a_killed_container_leaves_a_record_that_says_so(docker_machine: Machine) -> None:
    docker_machine.create("sleeper", SLEEPS)
    request_id = docker_machine.invoke("sleeper", {})
    docker_machine.until(request_id, lambda run: run["handler_at"])
    (container,) = [
        each
        for each in docker.from_env().containers.list(ignore_removed=True)
        if f"IMMORTAL_RUN_ID={request_id}" in each.attrs["Config"]["Env"]
    ]
    container.kill()
    run = docker_machine.until(request_id, lambda run: run["status"] == "parked")
    assert "exit code 137" in run["reason"]


YIELDS = """
import signal, time

def stop(*_):
    raise SystemExit("told to stop")

def handler(event, context):
    signal.signal(signal.SIGTERM, stop)
    time.sleep(4)
    return "finished"
"""


def test_a_stopped_task_gives_its_run_back_and_another_finishes_it(machine: Machine) -> None:
    machine.create("stopped", zip_of({"app.py": YIELDS}))
    request_id = machine.invoke("stopped", {})
    first = machine.until(request_id, lambda run: run["handler_at"])
    machine.client("ecs").stop_task(cluster=machine.outputs["Cluster"], task=first["task_arn"])
    run = machine.until(request_id, lambda run: run["status"] == "complete")
    assert (run["result"], run["attempt"]) == ("finished", 2)
    assert run["task_arn"] != first["task_arn"]


def test_an_event_of_a_megabyte_is_finished_too(machine: Machine) -> None:
    code = "import time\ndef handler(event, context):\n  time.sleep(1.5)\n  return len(event['text'])"
    machine.create("big", zip_of({"app.py": code}))
    request_id = machine.invoke("big", {"text": "x" * 900_000})
    assert machine.until(request_id, lambda run: run["status"] == "complete")["result"] == 900_000


def test_a_node_function_runs_out_of_time_and_completes(machine: Machine) -> None:
    need(
        "Node's runtime client (immortal local install)", here=bool(find_node() and client_files(client_version(NODE)))
    )
    code = "exports.handler = async (event) => { await new Promise((r) => setTimeout(r, 1500)); return event; };"
    machine.create("in-node", zip_of({"index.js": code}), Runtime=NODE.name, Handler="index.handler")
    run = machine.until(machine.invoke("in-node", {"n": 1}), lambda run: run["status"] not in {"pending", "processing"})
    assert (run["status"], run["result"], run["failure"]["class"]) == ("complete", {"n": 1}, "timeout"), run["reason"]


def test_the_version_that_was_invoked_is_the_version_that_is_finished(machine: Machine) -> None:
    code = "import time\ndef handler(event, context):\n  time.sleep(1.5)\n  return ['{}', context.function_version]"
    machine.create("versioned", zip_of({"app.py": code.format("released")}))
    functions = machine.client("lambda")
    functions.publish_version(FunctionName="versioned")
    functions.create_alias(FunctionName="versioned", Name="live", FunctionVersion="1")
    functions.put_function_event_invoke_config(FunctionName="versioned", Qualifier="live", MaximumRetryAttempts=0)
    functions.update_function_code(FunctionName="versioned", ZipFile=zip_of({"app.py": code.format("unreleased")}))
    request_id = machine.invoke("versioned:live", {})
    run = machine.until(request_id, lambda run: run["status"] not in {"pending", "processing"})
    assert (run["status"], run["result"]) == ("complete", ["released", "1"]), run["reason"]


def test_a_zip_that_escapes_its_folder_is_parked(machine: Machine) -> None:
    machine.create("escaping", zip_of({"app.py": "", "../../escaped.py": "x"}))
    request_id = machine.invoke("escaping", {})
    assert "leaves the folder" in machine.until(request_id, lambda run: run["status"] == "parked")["reason"]


def test_nothing_of_the_functions_environment_is_on_record(machine: Machine) -> None:
    secret = f"hush-{time.time_ns()}"
    code = "def handler(event, context): raise ValueError('no')"
    machine.create("keeper", zip_of({"app.py": code}), Environment={"Variables": {"PASSWORD": secret}})
    request_id = machine.invoke("keeper", {})
    run = machine.until(request_id, lambda run: run["status"] == "error")
    task = machine.client("ecs").describe_tasks(
        cluster=machine.outputs["Cluster"], tasks=[run["task_arn"]], include=["TAGS"]
    )
    logs = machine.client("logs")
    logged = [
        event["message"]
        for group in logs.describe_log_groups()["logGroups"]
        for event in logs.filter_log_events(logGroupName=group["logGroupName"])["events"]
    ]
    assert secret not in json.dumps([run, task, logged], default=str)
