"""The runner's image at work: tasks are containers, made for each kind of runtime on the base image of its own."""

import base64
import io
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from immortal_lambda.aws import DynamoTable
from immortal_lambda.clock import now_ms
from immortal_lambda.failures import Failure
from immortal_lambda.ledger import Ledger
from immortal_lambda.payloads import Inline
from immortal_lambda.runs import Origin, Run
from support.images import build_runner_image
from support.machine import Machine

pytestmark = pytest.mark.docker

NOT_A_FUNCTIONS = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "HOME", "HOSTNAME")
NOT_A_FUNCTIONS_EITHER = ("ECS_", "IMMORTAL_")


def programs(files: Mapping[str, str]) -> bytes:
    """A zip of files that can be executed."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o100755 << 16
            archive.writestr(entry, text)
    return data.getvalue()


def finish(machine: Machine, name: str, event: Any = None) -> dict[str, Any]:
    """Let a task finish what a function gave up."""
    request_id = machine.give_up(name, event)
    return machine.until(request_id, lambda run: run["status"] not in {"pending", "processing"})


def result(machine: Machine, name: str, event: Any = None) -> Any:
    run = finish(machine, name, event)
    assert run["status"] == "complete", (run["reason"], run["error"])
    return run["result"]


def install(machine: Machine, runtime: str, *options: str) -> Machine:
    """A second installation on the same local AWS, for functions of another runtime."""
    name = runtime.partition(".")[0]
    (outputs,) = machine.json("deploy", "--name", name, "--image", build_runner_image(runtime), *options)
    return replace(machine, installation=name, outputs=outputs)


@pytest.fixture(scope="module")
def node_machine(docker_machine: Machine) -> Machine:
    return install(docker_machine, "nodejs22.x")


@pytest.fixture(scope="module")
def provided_machine(docker_machine: Machine) -> Machine:
    """Its tasks are small, so that memory runs out soon."""
    small = ("--parameter", "Cpu=256", "--parameter", "Memory=512")
    return install(docker_machine, "provided.al2023", *small)


def check_environment(found: Mapping[str, str]) -> None:
    """Nothing of the container's own environment is in a function's."""
    assert [name for name in found if name in NOT_A_FUNCTIONS or name.startswith(NOT_A_FUNCTIONS_EITHER)] == []
    assert [name for name, value in found.items() if "immortal" in value] == []
    assert found["LAMBDA_TASK_ROOT"] == "/var/task"


LOOKS_AROUND = """
import getpass, grp, os, pathlib, boto3

MOUNTED = ("/proc", "/sys", "/dev")

def writable():
    for folder, folders, files in os.walk("/"):
        folders[:] = [each for each in folders if os.path.join(folder, each) not in MOUNTED]
        paths = [folder, *(os.path.join(folder, each) for each in files)]
        yield from (path for path in paths if os.access(path, os.W_OK))

def readable(path):
    try:
        return bool(pathlib.Path(path).read_bytes())
    except PermissionError:
        return False

def handler(event, context):
    return {
        "environment": dict(os.environ),
        "ids": [os.getuid(), os.getgid(), os.getgroups()],
        "names": [getpass.getuser(), grp.getgrgid(os.getgid()).gr_name, str(pathlib.Path.home())],
        "cwd": os.getcwd(),
        "writable": sorted(set(writable())),
        "first_process": [readable("/proc/1/environ"), readable("/proc/1/mem"), os.access("/proc/1/fd", os.R_OK)],
        "role": boto3.client("sts").get_caller_identity()["Arn"].split("/")[1],
    }
"""


@pytest.mark.conformance(46, 51, 53)
def test_a_function_finds_itself_as_on_lambda(docker_machine: Machine) -> None:
    docker_machine.create("looks-around", programs({"app.py": LOOKS_AROUND}), Environment={"Variables": {"MINE": "1"}})
    found = result(docker_machine, "looks-around")
    environment = found.pop("environment")
    check_environment(environment)
    assert environment["MINE"] == "1"
    assert environment["LD_LIBRARY_PATH"].startswith("/var/lang/lib:/lib64:")
    assert found == {
        "ids": [993, 990, []],
        "names": ["sbx_user1051", "sbx_user1051", "/home/sbx_user1051"],
        "cwd": "/var/task",
        "writable": ["/tmp"],  # noqa: S108  # the function's own
        "first_process": [False, False, False],
        "role": "looks-around",
    }


NODE = """
const os = require('os')
exports.handler = async (event, context) => ({
  event, environment: process.env, cwd: process.cwd(), ids: [process.getuid(), process.getgid()],
  user: os.userInfo().username, request: context.awsRequestId, left: context.getRemainingTimeInMillis() > 1e6,
})
"""


@pytest.mark.conformance(46)
def test_a_node_function_completes_on_a_base_image_without_python(node_machine: Machine) -> None:
    node_machine.create("noded", programs({"app.js": NODE}), Runtime="nodejs22.x")
    run = finish(node_machine, "noded", {"number": 12})
    assert run["status"] == "complete", (run["reason"], run["error"])
    found = run["result"]
    check_environment(found.pop("environment"))
    here = {"cwd": "/var/task", "ids": [993, 990], "user": "sbx_user1051"}
    assert found == {**here, "event": {"number": 12}, "request": run["run_id"], "left": True}


BOOTSTRAP = """\
#!/bin/sh
invocation=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while :; do
    event=$(curl -sS -D /tmp/headers "$invocation/next") || exit 1
    [ "$event" != '"too much"' ] || exec tail /dev/zero
    id=$(sed -n 's/\\r$//; s/^lambda-runtime-aws-request-id: //Ip' /tmp/headers)
    environment=$(env | base64 -w0)
    answer="{\\"event\\": $event, \\"user\\": \\"$(id -un)\\", \\"cwd\\": \\"$PWD\\", \\"env\\": \\"$environment\\"}"
    curl -sS -o /tmp/accepted -d "$answer" "$invocation/$id/response"
done
"""


@pytest.mark.conformance(46)
def test_a_shell_bootstrap_completes_on_a_base_image_with_nothing_else(provided_machine: Machine) -> None:
    provided_machine.create("shell", programs({"bootstrap": BOOTSTRAP}), Runtime="provided.al2023")
    found = result(provided_machine, "shell", [1, 2])
    environment = base64.b64decode(found.pop("env")).decode().splitlines()
    check_environment(dict(line.partition("=")[::2] for line in environment))
    assert found == {"event": [1, 2], "user": "sbx_user1051", "cwd": "/var/task"}


def test_a_function_that_needs_more_memory_than_its_task_has_is_told_apart(provided_machine: Machine) -> None:
    provided_machine.create("hungry", programs({"bootstrap": BOOTSTRAP}), Runtime="provided.al2023")
    run = finish(provided_machine, "hungry", "too much")
    assert (run["status"], run["error"]["type"]) == ("error", "Runtime.OutOfMemory")
    assert "signal: killed" in run["error"]["message"]
    assert exit_codes(provided_machine, run["task_arn"]) == [13]


def exit_codes(machine: Machine, task_arn: str) -> list[int]:
    ecs = machine.client("ecs")
    ecs.get_waiter("tasks_stopped").wait(
        cluster=machine.outputs["Cluster"], tasks=[task_arn], WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    (task,) = ecs.describe_tasks(cluster=machine.outputs["Cluster"], tasks=[task_arn])["tasks"]
    return [container["exitCode"] for container in task["containers"]]


WRAPPER = """\
#!/bin/sh
export WRAPPED="$1"
exec "$@"
"""
WRAPPED = "import os\ndef handler(event, context): return os.environ['WRAPPED']"


@pytest.mark.conformance(64)
def test_the_base_images_bootstrap_starts_through_the_functions_wrapper(docker_machine: Machine) -> None:
    content = {"ZipFile": programs({"wrap": WRAPPER})}
    layer = docker_machine.client("lambda").publish_layer_version(LayerName="wrapper", Content=content)
    for name in ("wrap", "missing"):
        docker_machine.create(
            f"wrapper-{name}",
            programs({"app.py": WRAPPED}),
            Layers=[layer["LayerVersionArn"]],
            Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": f"/opt/{name}"}},
        )
    assert result(docker_machine, "wrapper-wrap") == "/var/lang/bin/python3.11"
    run = finish(docker_machine, "wrapper-missing")
    assert run["status"] == "error"
    assert "exit status 127" in run["error"]["message"]


GIVES_BACK = """
import signal, time, boto3

def stop(*_):
    raise SystemExit("told to stop")

def handler(event, context):
    s3 = boto3.client("s3")
    if "Contents" in s3.list_objects_v2(Bucket="tries"):
        return "finished"
    s3.put_object(Bucket="tries", Key="first", Body=b"")
    signal.signal(signal.SIGTERM, stop)
    print("waiting", flush=True)
    time.sleep(60)
"""


def test_a_container_collects_orphans_and_gives_its_run_back_when_it_is_stopped(docker_machine: Machine) -> None:
    docker_machine.client("s3").create_bucket(Bucket="tries")
    docker_machine.create("gives-back", programs({"app.py": GIVES_BACK}))
    request_id = docker_machine.give_up("gives-back", None)
    first = docker_machine.until(
        request_id,
        lambda run: run["handler_at"] and "waiting" in docker_machine.immortal("runs", "logs", request_id).stdout,
    )
    (container,) = [
        each
        for each in docker.from_env().containers.list(ignore_removed=True)
        if f"IMMORTAL_RUN_ID={request_id}" in each.attrs["Config"]["Env"]
    ]
    orphan = container.exec_run(["/bin/sh", "-c", "sleep 0.1 > /dev/null & printf $!"]).output
    assert isinstance(orphan, bytes)
    deadline = time.monotonic() + 10
    while (
        container.exec_run(["test", "-e", f"/proc/{orphan.decode()}"]).exit_code == 0
    ):  # the dead, too, until collected
        assert time.monotonic() < deadline

    docker_machine.client("ecs").stop_task(cluster=docker_machine.outputs["Cluster"], task=first["task_arn"])

    run = docker_machine.until(request_id, lambda run: run["status"] == "complete")
    assert (run["result"], run["attempt"]) == ("finished", 2)
    assert exit_codes(docker_machine, first["task_arn"]) == [23]


SAME = """
import os, sys

DIFFER = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_")

def handler(event, context):
    return {
        "event": event,
        "function": [context.function_name, context.function_version, context.invoked_function_arn],
        "logs": context.log_group_name,
        "variables": sorted(name for name in os.environ if not name.startswith(DIFFER)),
        "values": {name: os.environ[name] for name in ("LANG", "TZ", "_HANDLER", "AWS_EXECUTION_ENV", "PYTHONPATH")},
        "where": [os.getcwd(), __file__, sys.argv],
        "who": [os.getuid(), os.getgid(), os.umask(0o022)],
        "path": [each for each in sys.path if each.startswith(("/var/task", "/opt", "/var/runtime"))],
    }
"""


def test_the_same_function_gives_the_same_result_on_lambda_in_a_process_and_in_a_container(
    docker_machine: Machine, tmp_path: Path
) -> None:
    docker_machine.create("same", programs({"app.py": SAME}), Environment={"Variables": {"MINE": "1"}})
    event = {"n": 12345678901234567890, "text": "h\u00e9"}
    invoked = docker_machine.client("lambda").invoke(FunctionName="same", Payload=json.dumps(event))
    on_lambda = json.loads(invoked["Payload"].read())
    in_a_container = result(docker_machine, "same", event)
    assert in_a_process(docker_machine, "same", event, tmp_path) == on_lambda == in_a_container


def in_a_process(machine: Machine, name: str, event: Any, work_dir: Path) -> Any:
    """Let a runner that is a process of this machine finish a run that nobody else takes."""
    region, account = machine.description["region"], machine.description["account"]
    outputs, now = machine.outputs, now_ms()
    ledger = Ledger(DynamoTable(machine.client("dynamodb"), outputs["LedgerTable"]))
    run = Run(
        run_id=f"in-a-process-{name}",
        kind="rerun",
        status="pending",
        event=Inline(json.dumps(event).encode()),
        created_ms=now,
        updated_ms=now,
        function=name,
        function_arn=f"arn:aws:lambda:{region}:{account}:function:{name}",
        version="$LATEST",
        failure=Failure("timeout", ""),
        origin=Origin(outputs["FailureQueueArn"], "m", now),
        launches=1,
        due_at_ms=now + 600_000,
    )
    assert ledger.create(run) is None
    settings = {
        "IMMORTAL_RUN_ID": run.run_id,
        "IMMORTAL_LEDGER_TABLE": outputs["LedgerTable"],
        "IMMORTAL_PAYLOAD_BUCKET": outputs["PayloadBucket"],
        "IMMORTAL_WORK_DIR": str(work_dir),
    }
    runner = [sys.executable, "-m", "immortal_runner"]
    done = subprocess.run(runner, env={**machine.environment, **settings}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return machine.show(run.run_id)["result"]
