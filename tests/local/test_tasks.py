import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from immortal_local.server import LocalAws
from immortal_local.tasks import records, service
from immortal_local.tasks.checks import FARGATE_SIZES, check_run_task, check_task_size, choose_provider
from immortal_local.tasks.records import Container, Ending, Task
from immortal_local.wire import ApiError
from support.bench import TRUST, Eventually, NewName

NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)

# Decisions

DEFINITION: dict[str, Any] = {
    "status": "ACTIVE",
    "family": "f",
    "networkMode": "awsvpc",
    "cpu": "256",
    "memory": "512",
    "containerDefinitions": [{"name": "runner", "image": "x"}],
}
REQUEST: dict[str, Any] = {
    "taskDefinition": "f",
    "launchType": "FARGATE",
    "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
}


def override(**values: Any) -> dict[str, Any]:
    return {"overrides": {"containerOverrides": [{"name": "runner", **values}]}}


def test_a_request_as_aws_takes_it_passes() -> None:
    check_run_task(REQUEST | override(environment=[{"name": "A", "value": "b"}]), DEFINITION)


@pytest.mark.parametrize(
    ("request_", "definition", "sentence"),
    [
        pytest.param({"count": 0}, {}, "Count must be", id="none"),
        pytest.param({"count": 11}, {}, "Count must be", id="too-many"),
        pytest.param({"capacityProviderStrategy": [{"capacityProvider": "FARGATE"}]}, {}, "Specifying both", id="both"),
        pytest.param({}, {"status": "INACTIVE"}, "TaskDefinition is inactive", id="inactive"),
        pytest.param({"networkConfiguration": {}}, {}, "Network Configuration must be provided", id="no-network"),
        pytest.param(
            {"overrides": {"containerOverrides": [{"name": "z"}]}}, {}, "container named z", id="unknown-container"
        ),
        pytest.param({"overrides": {"cpu": "256", "memory": "4096"}}, {}, "No Fargate configuration", id="size"),
        pytest.param({"launchType": "EC2"}, {}, "No Container Instances", id="ec2"),
        pytest.param({"propagateTags": "SERVICE"}, {}, "propagateTags", id="tags-of-a-service"),
    ],
)
def test_a_request_that_aws_refuses_is_refused(
    request_: dict[str, Any], definition: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ApiError, match=sentence):
        check_run_task(REQUEST | request_, DEFINITION | definition)


@given(st.integers(0, 8400))
def test_overrides_count_with_their_json(length: int) -> None:
    asked = override(environment=[{"name": "A", "value": "x" * length}])
    characters = len(json.dumps(asked["overrides"], separators=(",", ":")))
    if characters <= 8192:
        check_run_task(REQUEST | asked, DEFINITION)
    else:
        with pytest.raises(ApiError, match="at most 8192"):
            check_run_task(REQUEST | asked, DEFINITION)


@given(cpu=st.sampled_from([*FARGATE_SIZES, 300]), memory=st.integers(0, 300).map(lambda step: step * 512))
def test_only_sizes_of_the_table_are_legal(cpu: int, memory: int) -> None:
    if memory in FARGATE_SIZES.get(cpu, ()):
        check_task_size(str(cpu), str(memory))
    else:
        with pytest.raises(ApiError, match=f"{cpu} CPU, {memory} memory"):
            check_task_size(str(cpu), str(memory))


def test_a_strategy_gives_its_base_first_and_then_the_greatest_weight() -> None:
    known = ["FARGATE", "FARGATE_SPOT"]
    spot, demand = {"capacityProvider": "FARGATE_SPOT", "weight": 3}, {"capacityProvider": "FARGATE", "weight": 1}
    assert choose_provider([spot, demand], known) == "FARGATE_SPOT"
    assert choose_provider([spot, {**demand, "base": 1}], known) == "FARGATE"
    assert choose_provider([], known) is None
    with pytest.raises(ApiError, match="not associated"):
        choose_provider([{"capacityProvider": "other", "weight": 1}], known)
    with pytest.raises(ApiError, match="weight"):
        choose_provider([{"capacityProvider": "FARGATE", "weight": 0}], known)


def make_task() -> Task:
    return Task(
        arn="arn:aws:ecs:eu-west-1:123456789012:task/c/0123456789abcdef0123456789abcdef",
        cluster_arn="arn:aws:ecs:eu-west-1:123456789012:cluster/c",
        definition_arn="arn:aws:ecs:eu-west-1:123456789012:task-definition/f:1",
        group="family:f",
        containers=(Container("runner", "arn:container", "image", essential=True, cpu="0", memory=None),),
        overrides={},
        cpu="256",
        memory="512",
        created_at=NOW,
        availability_zone="eu-west-1a",
        launch_type="FARGATE",
    )


def test_a_life_takes_every_step_and_counts_it() -> None:
    steps = [make_task()]
    steps.append(records.pend(steps[-1], NOW + timedelta(seconds=1)))
    steps.append(records.run(steps[-1], NOW + timedelta(seconds=2), {"runner": "id"}))
    steps.append(records.begin_to_stop(steps[-1], NOW + timedelta(seconds=3), "UserInitiated", "enough"))
    steps.append(records.end_execution(steps[-1], NOW + timedelta(seconds=4), {"runner": Ending(143)}))
    steps.append(records.stop(steps[-1], NOW + timedelta(seconds=5)))

    assert [step.status for step in steps] == [
        "PROVISIONING",
        "PENDING",
        "RUNNING",
        "RUNNING",
        "DEPROVISIONING",
        "STOPPED",
    ]
    assert [step.version for step in steps] == [1, 2, 3, 4, 5, 6]
    described = records.describe(steps[-1])
    assert described["containers"][0]["exitCode"] == 143
    assert (described["stopCode"], described["stoppedReason"]) == ("UserInitiated", "enough")
    times = [described[name] for name in ("createdAt", "startedAt", "stoppingAt", "executionStoppedAt", "stoppedAt")]
    assert times == sorted(times)
    assert "exitCode" not in records.describe(steps[2])["containers"][0]


def test_the_first_reason_to_stop_stays() -> None:
    wanted = records.begin_to_stop(make_task(), NOW, "UserInitiated", "first")
    assert records.begin_to_stop(wanted, NOW, "EssentialContainerExited", "second") is wanted


def test_an_event_is_plain_json_in_the_shape_of_aws() -> None:
    event = records.write_event(make_task(), NOW, event_id="e")
    assert json.loads(json.dumps(event)) == event
    assert (event["source"], event["detail-type"]) == ("aws.ecs", "ECS Task State Change")
    assert event["resources"] == [make_task().arn]
    assert event["detail"]["createdAt"] == "2026-11-21T10:00:00.000Z"
    assert event["detail"]["version"] == 1


# Tasks that run

SCRIPT = """
import json, os, pathlib, signal, subprocess, sys, time, urllib.request
mode = os.environ.get("MODE", "")
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if mode == "child":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    print("child", child.pid, flush=True)
print("environment", json.dumps(dict(os.environ)), flush=True)
if "AWS_CONTAINER_CREDENTIALS_FULL_URI" in os.environ:
    given = urllib.request.urlopen(os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"]).read().decode()
    print("credentials", given, flush=True)
metadata = os.environ["ECS_CONTAINER_METADATA_URI_V4"] + "/task"
print("metadata", urllib.request.urlopen(metadata).read().decode(), flush=True)
print("path", json.dumps(sys.path), flush=True)
if mode == "lifeline":
    os.read(int(os.environ["IMMORTAL_LIFELINE_FD"]), 1)
    sys.exit(9)
if mode in {"sleep", "stubborn", "child"}:
    time.sleep(300)
sys.exit(int(mode or 0))
"""


class Stage:
    """A cluster with a task definition whose container runs the script."""

    def __init__(self, local: LocalAws, new_name: NewName) -> None:
        self.local = local
        self.ecs = local.client("ecs")
        self.cluster = new_name("cluster")
        self.group = new_name("group")
        self.ecs.create_cluster(clusterName=self.cluster, capacityProviders=["FARGATE", "FARGATE_SPOT"])
        local.client("logs").create_log_group(logGroupName=self.group)
        trust = json.dumps(TRUST)
        role = local.client("iam").create_role(RoleName=new_name("role"), AssumeRolePolicyDocument=trust)
        self.role_arn = role["Role"]["Arn"]
        self.family = new_name("family")
        self.definition = self.register()

    def register(self, *, name: str = "runner", group: str | None = None) -> str:
        options = {"awslogs-group": group or self.group, "awslogs-region": "us-east-1", "awslogs-stream-prefix": "p"}
        answer = self.ecs.register_task_definition(
            family=self.family,
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="256",
            memory="512",
            taskRoleArn=self.role_arn,
            containerDefinitions=[
                {
                    "name": name,
                    "image": "none",
                    "stopTimeout": 2,
                    "environment": [{"name": "OWN", "value": "1"}, {"name": "MODE", "value": ""}],
                    "logConfiguration": {"logDriver": "awslogs", "options": options},
                }
            ],
            tags=[{"key": "of", "value": "definition"}],
        )
        return str(answer["taskDefinition"]["taskDefinitionArn"])

    def run(self, mode: str = "", **request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.ecs.run_task(
            **{
                "cluster": self.cluster,
                "taskDefinition": self.definition,
                "launchType": "FARGATE",
                "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
                "overrides": {
                    "containerOverrides": [{"name": "runner", "environment": [{"name": "MODE", "value": mode}]}]
                },
                **request,
            }
        )
        return answer

    def start(self, mode: str = "", **request: Any) -> str:
        return str(self.run(mode, **request)["tasks"][0]["taskArn"])

    def describe(self, arn: str) -> dict[str, Any]:
        answer = self.ecs.describe_tasks(cluster=self.cluster, tasks=[arn], include=["TAGS"])
        assert answer["failures"] == []
        task: dict[str, Any] = answer["tasks"][0]
        return task

    def wait(self, arn: str, status: str) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while (task := self.describe(arn))["lastStatus"] != status:
            assert time.monotonic() < deadline, f"{task['lastStatus']} and not {status}: {task.get('stoppedReason')}"
            time.sleep(0.02)
        return task

    def said(self, arn: str, word: str) -> str:
        """Wait until a task has logged a line that begins with a word, and give the rest of it."""
        stream = f"p/runner/{arn.rpartition('/')[2]}"
        logs = self.local.client("logs")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            streams = logs.describe_log_streams(logGroupName=self.group, logStreamNamePrefix=stream)["logStreams"]
            if streams:
                events = logs.get_log_events(logGroupName=self.group, logStreamName=stream)["events"]
                for event in events:
                    if event["message"].startswith(f"{word} "):
                        return str(event["message"].removeprefix(f"{word} ").rstrip())
            time.sleep(0.02)
        pytest.fail(f"task {arn} never said {word}")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """A local AWS whose tasks run a script of this test in place of the runner."""
    script = tmp_path_factory.mktemp("task") / "script.py"
    script.write_text(SCRIPT)
    with LocalAws(time_scale=0.001, task_command=(sys.executable, "-I", str(script))) as running:
        yield running


@pytest.fixture(scope="module")
def stage(local: LocalAws, new_name: NewName) -> Stage:
    return Stage(local, new_name)


def test_a_task_runs_and_tells_its_true_exit_code(stage: Stage) -> None:
    task = stage.wait(stage.start("3"), "STOPPED")

    assert task["containers"][0]["exitCode"] == 3
    assert (task["stopCode"], task["stoppedReason"]) == (
        "EssentialContainerExited",
        "Essential container in task exited",
    )
    assert task["desiredStatus"] == "STOPPED"
    assert task["version"] == 6
    assert task["createdAt"] <= task["startedAt"] <= task["stoppingAt"] <= task["stoppedAt"]


def test_a_task_has_the_environment_of_fargate_and_nothing_of_ours(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEAK", "1")
    arn = stage.start("0")
    environment = json.loads(stage.said(arn, "environment"))
    credentials = json.loads(stage.said(arn, "credentials"))
    metadata = json.loads(stage.said(arn, "metadata"))

    assert environment["OWN"] == "1"
    assert environment["MODE"] == "0"
    assert environment["AWS_ENDPOINT_URL"] == stage.local.endpoint
    assert environment["AWS_REGION"] == environment["AWS_DEFAULT_REGION"] == "us-east-1"
    assert "LEAK" not in environment
    assert not [name for name in environment if name.startswith(("AWS_ACCESS", "AWS_SECRET", "PYTHON", "VIRTUAL"))]
    assert credentials["RoleArn"] == stage.role_arn
    assert set(credentials) == {"RoleArn", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"}
    assert metadata["TaskARN"] == arn
    stage.wait(arn, "STOPPED")
    assert environment["TMPDIR"] == environment["IMMORTAL_WORK_DIR"]
    assert Path(environment["IMMORTAL_WORK_DIR"]).parent == stage.local.scratch
    assert not Path(environment["IMMORTAL_WORK_DIR"]).exists()
    assert environment["IMMORTAL_WORK_DIR"] not in json.loads(stage.said(arn, "path"))


def test_the_credentials_are_gone_with_their_task(stage: Stage) -> None:
    arn = stage.start("0")
    address = json.loads(stage.said(arn, "environment"))["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    stage.wait(arn, "STOPPED")

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(address)  # noqa: S310  # an address that the local AWS gave
    refused.value.close()
    assert refused.value.code == 404


@pytest.mark.parametrize(("mode", "exit_code", "at_least_s"), [("sleep", 143, 0.0), ("stubborn", 137, 1.9)])
def test_stop_task_sends_sigterm_and_after_the_stop_timeout_sigkill(
    stage: Stage, mode: str, exit_code: int, at_least_s: float
) -> None:
    arn = stage.start(mode)
    stage.said(arn, "path")
    started = time.monotonic()

    answer = stage.ecs.stop_task(cluster=stage.cluster, task=arn, reason="enough")["task"]
    task = stage.wait(arn, "STOPPED")

    assert answer["desiredStatus"] == "STOPPED"
    assert task["containers"][0]["exitCode"] == exit_code
    assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "enough")
    assert at_least_s < time.monotonic() - started < at_least_s + 5


def test_a_killed_task_leaves_no_process_behind(stage: Stage, eventually: Eventually) -> None:
    arn = stage.start("child")
    child = int(stage.said(arn, "child"))
    assert psutil.pid_exists(child)
    stage.local.tasks.vanish(arn)

    eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_a_task_that_cannot_start_says_why(stage: Stage) -> None:
    elsewhere = stage.register(group="/not/there")
    task = stage.wait(stage.start(taskDefinition=elsewhere), "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart"
    assert "The specified log group does not exist" in task["stoppedReason"]
    assert "startedAt" not in task
    assert "exitCode" not in task["containers"][0]

    stranger = stage.register(name="stranger")
    task = stage.wait(stage.start(taskDefinition=stranger, overrides={}), "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart"
    assert "--engine docker" in task["stoppedReason"]


def test_a_client_token_starts_a_task_once(stage: Stage) -> None:
    first = stage.start("0", clientToken="once")

    assert stage.start("0", clientToken="once") == first
    with pytest.raises(stage.ecs.exceptions.ConflictException) as conflict:
        stage.start("1", clientToken="once")
    assert conflict.value.response["resourceIds"] == [first]
    assert stage.start("0", clientToken="other") != first


def test_client_tokens_are_forgotten_with_their_tasks(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    first = stage.start("0", clientToken="brief")
    stage.wait(first, "STOPPED")

    monkeypatch.setattr(service, "KEPT_S", 0)
    assert first not in stage.ecs.list_tasks(cluster=stage.cluster, desiredStatus="STOPPED")["taskArns"]

    assert "brief" not in {token for _, token in stage.local.tasks._tokens}
    assert stage.start("1", clientToken="brief") != first


def test_what_is_not_there_is_refused(stage: Stage) -> None:
    with pytest.raises(stage.ecs.exceptions.ClusterNotFoundException):
        stage.run(cluster="missing")
    with pytest.raises(stage.ecs.exceptions.InvalidParameterException, match="TaskDefinition not found"):
        stage.run(taskDefinition="missing")
    gone = stage.register()
    stage.ecs.deregister_task_definition(taskDefinition=gone)
    with pytest.raises(stage.ecs.exceptions.InvalidParameterException, match="TaskDefinition is inactive"):
        stage.run(taskDefinition=gone)
    with pytest.raises(stage.ecs.exceptions.InvalidParameterException, match="not found"):
        stage.ecs.stop_task(cluster=stage.cluster, task="missing")


def test_the_emulator_is_never_asked_to_run_a_task(stage: Stage) -> None:
    with pytest.raises(ClientError, match="not implemented in the local AWS"):
        stage.ecs.start_task(cluster=stage.cluster, taskDefinition=stage.definition, containerInstances=["i"])


def test_describing_an_unknown_task_gives_missing(stage: Stage) -> None:
    answer = stage.ecs.describe_tasks(cluster=stage.cluster, tasks=["0" * 32])

    assert answer["tasks"] == []
    assert answer["failures"][0]["reason"] == "MISSING"


def test_tasks_are_listed_by_what_they_are(stage: Stage) -> None:
    running = stage.start("sleep", startedBy="immortal/1")
    stopped = stage.start("0", startedBy="immortal/2")
    stage.wait(stopped, "STOPPED")

    def listed(**filters: Any) -> list[str]:
        arns: list[str] = stage.ecs.list_tasks(cluster=stage.cluster, **filters)["taskArns"]
        return arns

    assert listed(startedBy="immortal/1") == [running]
    assert listed(startedBy="immortal/2") == []
    assert listed(startedBy="immortal/2", desiredStatus="STOPPED") == [stopped]
    assert running in listed(family=stage.family)
    assert listed(family="other") == []
    pages = [
        page["taskArns"]
        for page in stage.ecs.get_paginator("list_tasks").paginate(
            cluster=stage.cluster, desiredStatus="STOPPED", PaginationConfig={"PageSize": 1}
        )
    ]
    assert all(len(page) <= 1 for page in pages)
    assert stopped in [each for page in pages for each in page]
    stage.ecs.stop_task(cluster=stage.cluster, task=running)


def test_tags_are_given_propagated_and_changed(stage: Stage) -> None:
    arn = stage.start("0", tags=[{"key": "own", "value": "1"}], propagateTags="TASK_DEFINITION")
    stage.ecs.tag_resource(resourceArn=arn, tags=[{"key": "more", "value": "2"}])
    stage.ecs.untag_resource(resourceArn=arn, tagKeys=["own"])

    expected = [{"key": "of", "value": "definition"}, {"key": "more", "value": "2"}]
    assert stage.ecs.list_tags_for_resource(resourceArn=arn)["tags"] == expected
    assert stage.describe(arn)["tags"] == expected
    assert stage.ecs.list_tags_for_resource(resourceArn=stage.definition)["tags"] == expected[:1]


def test_every_change_of_a_task_is_an_event(stage: Stage, new_name: NewName) -> None:
    sqs, events = stage.local.client("sqs"), stage.local.client("events")
    url = sqs.create_queue(QueueName=new_name("events"))["QueueUrl"]
    queue_arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rule = new_name("rule")
    pattern = {"source": ["aws.ecs"], "detail": {"startedBy": ["watched"]}}
    events.put_rule(Name=rule, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=rule, Targets=[{"Id": "q", "Arn": queue_arn}])

    arn = stage.start("5", startedBy="watched")
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["detail"]["lastStatus"] != "STOPPED":
        messages = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=10)["Messages"]
        seen.extend(json.loads(message["Body"]) for message in messages)

    statuses = [event["detail"]["lastStatus"] for event in seen]
    assert statuses == ["PROVISIONING", "PENDING", "RUNNING", "RUNNING", "DEPROVISIONING", "STOPPED"]
    assert [event["detail"]["version"] for event in seen] == [1, 2, 3, 4, 5, 6]
    assert {event["resources"][0] for event in seen} == {arn}
    assert seen[-1]["detail"]["containers"][0]["exitCode"] == 5


def test_faults_can_be_switched_on_over_http(stage: Stage) -> None:
    def post(path: str) -> int:
        request = urllib.request.Request(  # noqa: S310  # an address of the local AWS
            f"{stage.local.endpoint}/_immortal/faults/{path}", method="POST"
        )
        with urllib.request.urlopen(request) as answer:  # noqa: S310  # as above
            return int(answer.status)

    assert post("refuse?count=1") == 204
    refused = stage.run("0")
    assert refused["tasks"] == []
    assert refused["failures"][0]["reason"].startswith("Capacity is unavailable at this time")
    arn = stage.start("sleep")
    stage.wait(arn, "RUNNING")
    assert post(f"vanish?task={arn}") == 204
    assert stage.ecs.describe_tasks(cluster=stage.cluster, tasks=[arn])["failures"][0]["reason"] == "MISSING"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_task_dies_with_the_local_aws(tmp_path: Path, eventually: Eventually, how: signal.Signals) -> None:
    script, pid_file = tmp_path / "script.py", tmp_path / "pid"
    script.write_text(
        "import os, pathlib\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))\n"
        "os.read(int(os.environ['IMMORTAL_LIFELINE_FD']), 1)\n"
    )
    code = (
        "import signal, sys, threading\n"
        "from immortal_local.server import LocalAws\n"
        "stopping = threading.Event()\n"
        "signal.signal(signal.SIGTERM, lambda *_: stopping.set())\n"
        f"with LocalAws(task_command=(sys.executable, '-I', {str(script)!r})) as local:\n"
        "    ecs = local.client('ecs')\n"
        "    ecs.create_cluster(clusterName='c')\n"
        "    ecs.register_task_definition(family='f', requiresCompatibilities=['FARGATE'], networkMode='awsvpc',\n"
        "        cpu='256', memory='512', containerDefinitions=[{'name': 'runner', 'image': 'x'}])\n"
        "    ecs.run_task(cluster='c', taskDefinition='f', launchType='FARGATE',\n"
        "        networkConfiguration={'awsvpcConfiguration': {'subnets': ['s']}})\n"
        "    stopping.wait()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        eventually(lambda: pid_file.exists() and pid_file.read_text() != "")
        task = int(pid_file.read_text())
        os.kill(process.pid, how)
        process.wait(timeout=20)
    finally:
        process.kill()
        process.wait()
    eventually(lambda: not psutil.pid_exists(task) or psutil.Process(task).status() == psutil.STATUS_ZOMBIE)
