import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import DockerException

from immortal_local.server import LocalAws
from immortal_local.tasks.docker import OUT_OF_MEMORY, TASK_LABEL, EngineMissing, find_bridge_address
from support.bench import TRUST, Eventually
from support.needs import need

IMAGE = f"immortal-test-shell:{os.getpid()}"
PROGRAMS = ("bash", "cat", "sleep", "tail")


def engine_runs() -> bool:
    try:
        docker.from_env().ping()
    except DockerException:
        return False
    return True


def find_files() -> set[Path]:
    """Find this machine's shell, a few programs, and the libraries that they need: they are the whole image."""
    programs = [Path(found) for name in PROGRAMS if (found := shutil.which(name))]
    linked = subprocess.run(["/usr/bin/ldd", *programs], capture_output=True, text=True, check=True).stdout
    libraries = {Path(path) for path in re.findall(r"(/\S+) \(0x", linked)}
    return {*programs, *libraries}


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """An image of one shell."""
    need("a Docker engine", here=engine_runs())
    client = docker.from_env()
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", dereference=True) as archive:
        for file in sorted(find_files()):
            archive.add(file, str(file).lstrip("/"))
    client.api.import_image_from_data(layer.getvalue(), repository="immortal-test-shell", tag=str(os.getpid()))
    yield IMAGE
    client.images.remove(IMAGE, force=True)
    client.close()


@pytest.fixture(scope="module")
def local(image: str) -> Iterator[LocalAws]:
    assert image
    with LocalAws(engine="docker") as running:
        yield running


class Stage:
    """A cluster whose tasks run shell scripts in containers."""

    def __init__(self, local: LocalAws) -> None:
        self.local = local
        self.ecs = local.client("ecs")
        self.ecs.create_cluster(clusterName="c")
        local.client("logs").create_log_group(logGroupName="/tasks")
        role = local.client("iam").create_role(RoleName="task", AssumeRolePolicyDocument=json.dumps(TRUST))
        self.role_arn = role["Role"]["Arn"]

    def start(self, script: str, *, image: str = IMAGE, **container: Any) -> str:
        log = {"awslogs-group": "/tasks", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "p"}
        definition = self.ecs.register_task_definition(
            family="f",
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="256",
            memory="512",
            taskRoleArn=self.role_arn,
            containerDefinitions=[
                {
                    "name": "runner",
                    "image": image,
                    "entryPoint": ["bash", "-c"],
                    "command": [script],
                    "environment": [{"name": "PATH", "value": "/usr/bin:/bin"}],
                    "stopTimeout": 2,
                    "logConfiguration": {"logDriver": "awslogs", "options": log},
                    **container,
                }
            ],
        )["taskDefinition"]["taskDefinitionArn"]
        answer = self.ecs.run_task(
            cluster="c",
            taskDefinition=definition,
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": {"subnets": ["s"]}},
        )
        return str(answer["tasks"][0]["taskArn"])

    def wait(self, arn: str, status: str = "STOPPED") -> dict[str, Any]:
        deadline = time.monotonic() + 40
        while True:
            task: dict[str, Any] = self.ecs.describe_tasks(cluster="c", tasks=[arn])["tasks"][0]
            if task["lastStatus"] == status:
                return task
            assert time.monotonic() < deadline, f"{task['lastStatus']} and not {status}"
            time.sleep(0.05)

    def log(self, arn: str) -> str:
        stream = f"p/runner/{arn.rpartition('/')[2]}"
        events = self.local.client("logs").get_log_events(logGroupName="/tasks", logStreamName=stream)["events"]
        return "".join(event["message"].rstrip("\n") + "\n" for event in events)


@pytest.fixture(scope="module")
def stage(local: LocalAws) -> Stage:
    return Stage(local)


def test_without_an_engine_the_local_aws_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")

    with pytest.raises(EngineMissing, match="--engine process"):
        find_bridge_address()
    code = "from immortal_local.server import LocalAws; LocalAws(engine='docker').start()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "Next step: start Docker" in done.stderr


@pytest.mark.docker
def test_a_container_runs_logs_and_tells_its_exit_code(stage: Stage) -> None:
    arn = stage.start("echo hello; exit 7")
    task = stage.wait(arn)

    assert task["containers"][0]["exitCode"] == 7
    assert task["stopCode"] == "EssentialContainerExited"
    assert stage.log(arn) == "hello\n"
    assert containers_of(arn) == []


@pytest.mark.docker
def test_a_container_reaches_the_local_aws_and_its_role(stage: Stage) -> None:
    script = r"""
        get() {
            exec 3<>"/dev/tcp/${1%:*}/${1#*:}"
            printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&3
            cat <&3 | while read -r line; do [ "$line" = $'\r' ] && cat; done
        }
        get "${AWS_ENDPOINT_URL#http://}" /moto-api/ > /dev/null && echo reached
        if [ -n "$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" ]
        then get 169.254.170.2:80 "$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
        else echo "{\"RoleArn\": \"static $AWS_ACCESS_KEY_ID\"}"
        fi
    """
    arn = stage.start(script)
    stage.wait(arn)

    reached, credentials = stage.log(arn).splitlines()
    assert reached == "reached"
    assert json.loads(credentials)["RoleArn"].startswith((stage.role_arn, "static ASIA"))


@pytest.mark.docker
def test_a_container_has_the_size_of_its_task(stage: Stage) -> None:
    arn = stage.start("sleep 60")
    stage.wait(arn, "RUNNING")

    (container,) = containers_of(arn)
    assert container.attrs["HostConfig"]["Memory"] == 512 * 1024 * 1024
    assert container.attrs["HostConfig"]["NanoCpus"] == 250_000_000
    stage.ecs.stop_task(cluster="c", task=arn)
    stage.wait(arn)


@pytest.mark.docker
@pytest.mark.parametrize(
    ("script", "exit_code"),
    [
        pytest.param("trap 'exit 5' TERM; while :; do sleep 0.1; done", 5, id="obeys"),
        pytest.param("trap '' TERM; while :; do sleep 0.1; done", 137, id="stubborn"),
    ],
)
def test_a_container_is_asked_to_stop_and_then_killed(stage: Stage, script: str, exit_code: int) -> None:
    arn = stage.start(f"echo ready; {script}")
    stage.wait(arn, "RUNNING")
    time.sleep(0.3)  # the trap is set a moment after the shell starts, which nothing outside of it can see

    stage.ecs.stop_task(cluster="c", task=arn)

    task = stage.wait(arn)
    assert (task["stopCode"], task["containers"][0]["exitCode"]) == ("UserInitiated", exit_code)


@pytest.mark.docker
def test_a_container_that_needs_too_much_memory_says_so(stage: Stage) -> None:
    task = stage.wait(stage.start("tail /dev/zero", memory=16))

    assert task["containers"][0]["exitCode"] in {1, 137}
    assert task["containers"][0]["reason"] == OUT_OF_MEMORY


@pytest.mark.docker
def test_a_missing_image_fails_the_task(stage: Stage) -> None:
    task = stage.wait(stage.start("true", image="127.0.0.1:1/immortal/missing:latest"))

    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"].startswith("CannotPullContainerError")


OTHER = """
import sys
from immortal_local.server import LocalAws
with LocalAws(engine="docker") as local:
    if sys.argv[1:]:
        ecs = local.client("ecs")
        ecs.create_cluster(clusterName="c")
        ecs.register_task_definition(
            family="f", requiresCompatibilities=["FARGATE"], networkMode="awsvpc", cpu="256", memory="512",
            containerDefinitions=[{"name": "runner", "image": sys.argv[1], "entryPoint": ["cat"]}],
        )
        started = ecs.run_task(
            cluster="c", taskDefinition="f", launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": {"subnets": ["s"]}},
        )
        print(started["tasks"][0]["taskArn"], flush=True)
        sys.stdin.read()
"""


@pytest.mark.docker
def test_a_container_ends_with_a_local_aws_that_is_killed_and_the_next_one_sweeps_it_up(
    image: str, eventually: Eventually
) -> None:
    command = [sys.executable, "-c", OTHER]
    with subprocess.Popen([*command, image], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        arn = other.stdout.readline().strip()
        eventually(lambda: [each.status for each in containers_of(arn)] == ["running"])
        other.kill()
    eventually(lambda: [each.status for each in containers_of(arn)] == ["exited"])

    subprocess.run(command, check=True, timeout=60)

    assert containers_of(arn) == []


def containers_of(arn: str) -> list[Any]:
    client = docker.from_env()
    ours: dict[str, str | list[str] | bool] = {"label": f"{TASK_LABEL}={arn}"}
    found: list[Any] = client.containers.list(all=True, filters=ours, ignore_removed=True)
    return found
