"""Functions that are container images, from the failure on Lambda to the outcome, in real containers."""

import io
import json
import tarfile
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import docker
import pytest

from support.images import PYTHON_BASE
from support.machine import Machine

pytestmark = pytest.mark.docker

HANDLER = """
import json, os, subprocess, time
import boto3

def look(context):
    def readable(path):
        try:
            return open(path, "rb").read().decode()
        except OSError as error:
            return type(error).__name__
    def writable(path):
        try:
            open(path, "w").close()
            return True
        except OSError:
            return False
    return {
        "environment": dict(os.environ),
        "first": readable("/proc/1/environ"),
        "shared": sorted(os.listdir("/var/immortal-shared")),
        "ids": [os.getuid(), os.getgid(), os.getcwd()],
        "writable": [path for path in ("/tmp/x", "/var/task/x", "/x", "/var/immortal-shared/x") if writable(path)],
        "role": boto3.client("sts").get_caller_identity()["Arn"],
        "context": [context.function_name, context.function_version, context.aws_request_id],
        "remaining": context.get_remaining_time_in_millis() > 1_000_000,
    }

def handler(event, context):
    print("working on", event["job"], flush=True)
    if context.get_remaining_time_in_millis() < 1_000_000:
        time.sleep(60)
    if event["job"] == "dies":
        os.kill(os.getpid(), 9)
    if event["job"] == "fails":
        raise ValueError("no")
    if event["job"] == "eats":
        kept = bytearray(8 * 2**30)
        kept[::4096] = bytes(len(kept[::4096]))
    return look(context)
"""

ADAPTER = """\
#!/var/lang/bin/python3 -S
import json, os, sys, threading, time, urllib.request
api = os.environ["AWS_LAMBDA_RUNTIME_API"]

def call(path, data=None, headers={}):
    request = urllib.request.Request(f"http://{api}{path}", data=data, headers=headers)
    return urllib.request.urlopen(request)

name = {"Lambda-Extension-Name": os.path.basename(sys.argv[0])}
registered = call("/2020-01-01/extension/register", b'{"events": []}', name)
me = {"Lambda-Extension-Identifier": registered.headers["Lambda-Extension-Identifier"]}
threading.Thread(target=call, args=("/2020-01-01/extension/event/next", None, me), daemon=True).start()
while True:
    try:
        urllib.request.urlopen("http://127.0.0.1:8080/ready")
        break
    except OSError:
        time.sleep(0.05)
while True:
    event = call("/2018-06-01/runtime/invocation/next")
    request_id = event.headers["Lambda-Runtime-Aws-Request-Id"]
    said = json.load(event)
    if int(event.headers["Lambda-Runtime-Deadline-Ms"]) - time.time() * 1000 < 1_000_000:
        time.sleep(60)
    answer = urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8080" + said["rawPath"]))
    result = {"statusCode": answer.status, "body": answer.read().decode()}
    call(f"/2018-06-01/runtime/invocation/{request_id}/response", json.dumps(result).encode()).read()
"""

SERVER = """
import http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.path} of {os.environ['AWS_LAMBDA_FUNCTION_NAME']}".encode())

http.server.HTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
"""

FUNCTIONS = "immortal-test-function"
SECRET = f"hush-{time.time_ns()}"
IMAGES = {
    "handler": (
        {"var/task/app.py": HANDLER},
        'ENV TZ=Europe/Rome IMAGE_SETS=it\nCMD ["app.handler"]',
    ),
    "server": (
        {"opt/extensions/adapter": ADAPTER, "var/task/server.py": SERVER},
        'ENTRYPOINT ["/var/lang/bin/python3", "server.py"]',
    ),
}


def build(name: str, files: Mapping[str, str], lines: str) -> str:
    """Build an image as a developer does, from AWS's base image."""
    dockerfile = f"FROM {PYTHON_BASE}\nCOPY files /\n{lines}\n"
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for path, text in {"Dockerfile": dockerfile, **{f"files/{path}": text for path, text in files.items()}}.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text.encode()), 0o755
            archive.addfile(entry, io.BytesIO(text.encode()))
    tag = f"{FUNCTIONS}:{name}"
    docker.from_env().images.build(fileobj=io.BytesIO(context.getvalue()), custom_context=True, tag=tag, rm=True)
    return tag


def create(machine: Machine, name: str, tag: str, **settings: Any) -> None:
    image = {"PackageType": "Image", "Code": {"ImageUri": tag}, "Runtime": None, "Handler": None, "MemorySize": 256}
    machine.create(name, b"", **image, **settings)


@pytest.fixture(scope="module")
def images(docker_machine: Machine) -> Iterator[Mapping[str, str]]:
    built = {name: build(name, *parts) for name, parts in IMAGES.items()}
    for name, tag in built.items():
        create(docker_machine, name, tag, Environment={"Variables": {"PASSWORD": SECRET, "LINES": "a\n'b' $c"}})
    yield built
    for tag in built.values():
        docker.from_env().images.remove(tag, force=True)


@pytest.fixture(scope="module")
def finished(docker_machine: Machine, images: Mapping[str, str]) -> Mapping[str, dict[str, Any]]:
    """What became of jobs that all ran out of time on Lambda, by job."""
    assert images
    request_ids = {job: docker_machine.invoke("handler", {"job": job}) for job in ("works", "dies", "fails", "eats")}
    request_ids["serves"] = docker_machine.invoke("server", {"rawPath": "/shop"})
    docker_machine.immortal("runs", "wait", *request_ids.values(), "--timeout", "100")
    return {job: docker_machine.show(request_id) for job, request_id in request_ids.items()}


@pytest.mark.conformance(76)
def test_an_image_on_a_base_image_is_finished_by_its_own_entry_point(finished: Mapping[str, Any]) -> None:
    run = finished["works"]
    assert (run["status"], run["failure"]["class"], run["attempt"]) == ("complete", "timeout", 1), run
    result = run["result"]
    assert result["ids"] == [993, 990, "/var/task"]
    assert result["writable"] == ["/tmp/x"]  # noqa: S108  # the function's own
    assert result["context"] == ["handler", "$LATEST", run["run_id"]]
    assert result["remaining"]
    assert result["role"].endswith(":assumed-role/handler/handler")


@pytest.mark.conformance(46, 51)
def test_an_image_finds_what_lambda_gives_images_and_nothing_of_the_task(finished: Mapping[str, Any]) -> None:
    result = finished["works"]["result"]
    environment = dict(result["environment"])
    assert environment["PASSWORD"] == SECRET
    assert environment["LINES"] == "a\n'b' $c"
    assert (environment["TZ"], environment["IMAGE_SETS"]) == ("Europe/Rome", "it")
    assert environment["AWS_EXECUTION_ENV"] == "AWS_Lambda_Image"
    assert environment["_HANDLER"] == "app.handler", "set by the image's own entry script"
    for absent in ("HOME", "HOSTNAME", "AWS_ACCESS_KEY_ID", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        assert absent not in environment
    assert not [name for name in environment if name.startswith(("ECS_", "IMMORTAL_", "im_"))]
    first = result["first"]
    assert "RELATIVE_URI" not in first
    assert "ECS_" not in first
    assert SECRET not in first


@pytest.mark.conformance(77)
def test_an_image_with_a_web_adapter_answers_a_web_request(finished: Mapping[str, Any]) -> None:
    run = finished["serves"]
    assert (run["status"], run["result"]) == ("complete", {"statusCode": 200, "body": "/shop of server"}), run


@pytest.mark.conformance(27)
def test_an_images_program_that_is_killed_is_told_as_lambda_tells_it(finished: Mapping[str, Any]) -> None:
    run = finished["dies"]
    assert (run["status"], run["error"]["type"]) == ("error", "Runtime.ExitError"), run
    assert "signal: killed" in run["error"]["message"]


def test_an_image_that_takes_all_memory_is_told_so_and_the_runner_lives(finished: Mapping[str, Any]) -> None:
    run = finished["eats"]
    assert (run["status"], run["error"]["type"]) == ("error", "Runtime.OutOfMemory"), run


def test_an_images_own_error_is_its_own(finished: Mapping[str, Any]) -> None:
    run = finished["fails"]
    assert (run["error"]["type"], run["error"]["message"]) == ("ValueError", "no")


def test_an_image_logs_to_its_functions_group(docker_machine: Machine, finished: Mapping[str, Any]) -> None:
    logged = docker_machine.immortal("runs", "logs", finished["works"]["run_id"]).stdout
    assert "working on works" in logged
    assert logged.index("START RequestId") < logged.index("working on works") < logged.index("END RequestId")


def test_nothing_of_an_images_environment_is_on_record(docker_machine: Machine, finished: Mapping[str, Any]) -> None:
    ecs = docker_machine.client("ecs")
    cluster = docker_machine.outputs["Cluster"]
    tasks = ecs.describe_tasks(cluster=cluster, tasks=[run["task_arn"] for run in finished.values()], include=["TAGS"])[
        "tasks"
    ]
    definitions = [
        ecs.describe_task_definition(taskDefinition=task["taskDefinitionArn"])["taskDefinition"] for task in tasks
    ]
    assert {definition["family"].rpartition("-")[0] for definition in definitions} == {
        "immortal-image-handler",
        "immortal-image-server",
    }
    assert len(ecs.list_task_definitions(familyPrefix=definitions[0]["family"])["taskDefinitionArns"]) == 1
    logs = docker_machine.client("logs")
    logged = [
        event["message"]
        for group in logs.describe_log_groups()["logGroups"]
        for event in logs.filter_log_events(logGroupName=group["logGroupName"])["events"]
    ]
    kept = {job: {**run, "result": None} for job, run in finished.items()}
    assert SECRET not in json.dumps([kept, tasks, definitions, logged], default=str)


def test_no_volume_of_a_task_is_left(docker_machine: Machine, finished: Mapping[str, Any]) -> None:
    assert finished
    engine, mine = docker.from_env(), {"label": f"immortal-local.pid={docker_machine.pid}"}
    deadline = time.monotonic() + 20
    while engine.volumes.list(filters=mine):
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture(scope="module")
def shell_less() -> Iterator[str]:
    """An image of no file but one empty folder."""
    engine, name = docker.from_env(), f"{FUNCTIONS}:no-shell"
    empty = io.BytesIO()
    with tarfile.open(fileobj=empty, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("bin"))
    engine.api.import_image_from_data(empty.getvalue(), repository=FUNCTIONS, tag="no-shell")
    yield name
    engine.images.remove(name, force=True)


def test_an_image_without_a_shell_is_parked_with_the_reason(docker_machine: Machine, shell_less: str) -> None:
    create(docker_machine, "shell-less", shell_less, ImageConfig={"EntryPoint": ["/bin/program"]})
    run_id = report_failure(docker_machine, "shell-less")
    reason = docker_machine.until(run_id, lambda run: run["status"] == "parked")["reason"]
    assert "the function's container did not start" in reason
    assert "/bin/sh" in reason


def report_failure(machine: Machine, name: str) -> str:
    """Tell of a failure as an on-failure destination does; give the request id."""
    request_id = str(uuid.uuid4())
    function = machine.client("lambda").get_function_configuration(FunctionName=name)["FunctionArn"]
    context = {"requestId": request_id, "functionArn": f"{function}:$LATEST", "approximateInvokeCount": 1}
    record = {
        "version": "1.0",
        "requestContext": {**context, "condition": "RetriesExhausted"},
        "requestPayload": {},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "responsePayload": {"errorMessage": "Task timed out after 3.00 seconds"},
    }
    queue = machine.outputs["FailureQueueUrl"]
    machine.client("sqs").send_message(QueueUrl=queue, MessageBody=json.dumps(record))
    return request_id
