"""The ECS task operations: RunTask, DescribeTasks, ListTasks, StopTask and the tags of tasks."""

import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.core.exceptions import ServiceException
from moto.ecs.models import EC2ContainerServiceBackend, ecs_backends

from immortal_local.parts import Ground
from immortal_local.tasks import records
from immortal_local.tasks.checks import check_run_task, choose_provider
from immortal_local.tasks.credentials import CredentialsServer, TaskPaths, assume_task_role
from immortal_local.tasks.drafts import draft_task, fingerprint, is_listed, number, write_metadata
from immortal_local.tasks.engines import DEFAULT_STOP_TIMEOUT_S, Engine, RunningTask, TaskNotStarted
from immortal_local.tasks.faults import Faults
from immortal_local.tasks.orders import write_order
from immortal_local.tasks.records import Ending, StopCode, Task
from immortal_local.wire import ApiError, Call, Service

__all__ = ["Publish", "Tasks"]

KEPT_S = 3600
"""ECS shows a stopped task for an hour."""
TOKEN_LIFETIME_S = 24 * 3600
MAX_DESCRIBED = 100
PAGE = 100
END_TIMEOUT_S = 30.0
NO_CAPACITY = "Capacity is unavailable at this time. Please try again later or in a different availability zone"

Publish = Callable[[Mapping[str, Any]], None]


@dataclass(slots=True)
class _Live:
    """A task's record beside what carries it; changed only under the service's lock."""

    task: Task
    finished: threading.Event = field(default_factory=threading.Event)
    running: RunningTask | None = None
    stop_timeout_s: float = DEFAULT_STOP_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class _Answered:
    """What a client token stood for."""

    fingerprint: str
    arns: tuple[str, ...]
    answer: Mapping[str, Any]
    expires_at: float


class Tasks:
    """The tasks of the local ECS, each carried by an engine.

    Args:
        ground: The local AWS around it.
        engine: Carries the tasks.
        credentials: Serves the tasks' roles.
        publish: Gets every "ECS Task State Change" event.

    Attributes:
        faults: What tests may switch on.
    """

    def __init__(self, ground: Ground, engine: Engine, credentials: CredentialsServer, publish: Publish) -> None:
        self.faults = Faults(self.vanish)
        self._ground = ground
        self._engine = engine
        self._credentials = credentials
        self._publish = publish
        self._lock = threading.RLock()
        self._live: dict[str, _Live] = {}
        self._tokens: dict[tuple[str, str], _Answered] = {}
        self._stopping = False

    def services(self) -> Sequence[Service]:
        """RunTask and what belongs to it; clusters and task definitions stay the emulator's."""
        operations = {
            "RunTask": self.run_task,
            "DescribeTasks": self.describe_tasks,
            "ListTasks": self.list_tasks,
            "StopTask": self.stop_task,
            "TagResource": self.tag_resource,
            "UntagResource": self.untag_resource,
            "ListTagsForResource": self.list_tags,
        }
        return [Service("ecs", operations, kept=frozenset({"StartTask", "CreateService", "CreateTaskSet"}))]

    def start(self) -> None:
        """Let the engine get ready."""
        self._ground.front.add_route(Faults.prefix, self.faults)
        self._engine.open()

    def stop(self) -> None:
        """Kill every task and wait until nothing of them is left."""
        with self._lock:
            self._stopping = True
            live = list(self._live.values())
        for each in live:
            self._want_stopped(each, "UserInitiated", "The local AWS stops.")
            if each.running:
                each.running.kill()
        for each in live:
            each.finished.wait(END_TIMEOUT_S)
        self._engine.close()

    # RunTask

    def run_task(self, call: Call) -> dict[str, Any]:
        """Start one to ten tasks, or say why not."""
        request = call.request
        cluster = self._find_cluster(call)
        token = (cluster["clusterArn"], request.get("clientToken", ""))
        with self._lock:
            if known := self._answered(token):
                return _repeat(known, fingerprint(request))
            answer = self._run_checked(call, cluster)
            arns = tuple(task["taskArn"] for task in answer["tasks"])
            if token[1] and arns:
                self._tokens[token] = _Answered(fingerprint(request), arns, answer, time.time() + TOKEN_LIFETIME_S)
        return answer

    def _run_checked(self, call: Call, cluster: Mapping[str, Any]) -> dict[str, Any]:
        definition, propagated = self._find_definition(call)
        check_run_task(call.request, definition)
        draft = draft_task(
            call.request,
            cluster,
            definition,
            provider=_choose_provider(call.request, cluster),
            tags={**propagated, **_read_tags(call.request.get("tags", ()))},
            region=call.region,
            now=_now(),
        )
        answer: dict[str, Any] = {"tasks": [], "failures": []}
        for _ in range(call.request.get("count", 1)):
            if self.faults.take_refusal():
                answer["failures"].append({"reason": NO_CAPACITY})
            else:
                task = number(draft)
                answer["tasks"].append(records.describe(task))
                self._launch(task, call.request, definition)
        return answer

    def _answered(self, token: tuple[str, str]) -> _Answered | None:
        """Recall what a token stood for, as long as ECS would: a day, or an hour from its tasks' end."""
        self._forget_old()
        return self._tokens.get(token)

    # The life of one task

    def _launch(self, task: Task, request: Mapping[str, Any], definition: Mapping[str, Any]) -> None:
        live = self._live[task.arn] = _Live(task)
        self._tell(task)
        name = f"task-{task.task_id[:8]}"
        threading.Thread(target=self._carry, args=(live, request, definition), name=name, daemon=True).start()

    def _carry(self, live: _Live, request: Mapping[str, Any], definition: Mapping[str, Any]) -> None:
        """Carry a task from its first step to its last, on a thread of its own."""
        try:
            endings = self._run_to_the_end(live, request, definition)
        except TaskNotStarted as reason:
            endings = self._note_not_started(live, str(reason))
        except Exception as error:  # noqa: BLE001  # a fault of ours must end the task visibly, never leave it running
            traceback.print_exc(file=sys.stderr)
            endings = self._note_not_started(live, f"InternalError: {type(error).__name__} in the local AWS: {error}")
        try:
            self._want_stopped(live, "EssentialContainerExited", records.ESSENTIAL_EXITED)
            self._step(live, lambda task, now: records.end_execution(task, now, endings))
            self._step(live, records.stop)
        finally:
            live.finished.set()

    def _note_not_started(self, live: _Live, reason: str) -> Mapping[str, Ending]:
        self._want_stopped(live, "TaskFailedToStart", reason)
        return {}

    def _run_to_the_end(
        self, live: _Live, request: Mapping[str, Any], definition: Mapping[str, Any]
    ) -> Mapping[str, Ending]:
        self._step(live, records.pend)
        paths = self._serve_secrets(live, request, definition)
        try:
            order = write_order(live.task, request, definition, paths)
            running = self._engine.start(order)
            with self._lock:
                live.running, live.stop_timeout_s = running, order.stop_timeout_s
                wanted = live.task.desired == "RUNNING"
            if wanted:
                self._step(live, lambda task, now: records.run(task, now, running.runtime_ids))
            else:
                running.kill()
            return running.wait(
                lambda name, ending: self._step(live, lambda task, _: records.end_container(task, name, ending))
            )
        finally:
            self._credentials.remove_task(paths)

    def _serve_secrets(self, live: _Live, request: Mapping[str, Any], definition: Mapping[str, Any]) -> TaskPaths:
        task = live.task
        role = request.get("overrides", {}).get("taskRoleArn") or definition.get("taskRoleArn")
        sts = self._ground.client("sts", task.arn.split(":")[3])
        return self._credentials.add_task(
            credentials=(lambda: assume_task_role(sts, role, task.task_id)) if role else None,
            metadata=lambda: write_metadata(live.task, definition),
        )

    def _want_stopped(self, live: _Live, code: StopCode, reason: str) -> None:
        if live.task.desired == "RUNNING":
            self._step(live, lambda task, now: records.begin_to_stop(task, now, code, reason))

    def _step(self, live: _Live, change: Callable[[Task, datetime], Task]) -> None:
        with self._lock:
            before = live.task
            live.task = change(before, _now())
            if live.task.version == before.version or before.arn not in self._live:
                return
            task = live.task
            self._tell(task)

    def _tell(self, task: Task) -> None:
        if not self._stopping:
            self._publish(records.write_event(task, _now(), event_id=str(uuid.uuid4())))

    # The other operations

    def describe_tasks(self, call: Call) -> dict[str, Any]:
        """Describe up to a hundred tasks; the unknown ones come back as failures."""
        cluster = self._find_cluster(call)
        asked = call.request["tasks"]
        if not asked or len(asked) > MAX_DESCRIBED:
            raise ApiError("InvalidParameterException", f"Tasks must be 1 to {MAX_DESCRIBED}, got {len(asked)}.")
        with_tags = "TAGS" in call.request.get("include", ())
        answer: dict[str, Any] = {"tasks": [], "failures": []}
        with self._lock:
            self._forget_old()
            for name in asked:
                arn = _task_arn(name, cluster["clusterArn"])
                if live := self._live.get(arn):
                    answer["tasks"].append(records.describe(live.task, with_tags=with_tags))
                else:
                    answer["failures"].append({"arn": arn, "reason": "MISSING"})
        return answer

    def list_tasks(self, call: Call) -> dict[str, Any]:
        """List the tasks of a cluster, running ones unless others are asked for."""
        cluster = self._find_cluster(call)
        request = call.request
        with self._lock:
            self._forget_old()
            arns = [
                live.task.arn for live in self._live.values() if is_listed(live.task, cluster["clusterArn"], request)
            ]
        start = int(request.get("nextToken") or 0)
        end = start + min(request.get("maxResults", PAGE), PAGE)
        return {"taskArns": arns[start:end], "nextToken": str(end) if end < len(arns) else None}

    def stop_task(self, call: Call) -> dict[str, Any]:
        """Stop a task: SIGTERM now, SIGKILL when its stop timeout is over."""
        cluster = self._find_cluster(call)
        arn = _task_arn(call.request["task"], cluster["clusterArn"])
        with self._lock:
            live = self._live.get(arn)
            if live is None:
                raise ApiError("InvalidParameterException", "The referenced task was not found.")
            wanted_before = live.task.desired == "STOPPED"
            self._want_stopped(live, "UserInitiated", call.request.get("reason") or "Task stopped by user")
            answer = {"task": records.describe(live.task)}
        if not wanted_before:
            threading.Thread(target=self._end, args=(live,), name=f"stop-{live.task.task_id[:8]}", daemon=True).start()
        return answer

    def _end(self, live: _Live) -> None:
        with self._lock:
            running = live.running
        if running is None:
            return  # whoever starts the task sees that it is not wanted any more
        running.terminate()
        if not live.finished.wait(live.stop_timeout_s):
            running.kill()

    def vanish(self, arn: str) -> None:
        """Lose a task as a failing host does: its processes die and ECS knows it no more, without an event."""
        with self._lock:
            live = self._live.pop(arn)
        if live.running:
            live.running.kill()

    # Tags: those of tasks are ours, all others the emulator's

    def tag_resource(self, call: Call) -> None:
        """Add tags to a task, or to what the emulator keeps."""
        arn = call.request["resourceArn"]
        if ":task/" not in arn:
            with _emulator_errors():
                _backend(call).tag_resource(arn, call.request["tags"])
        else:
            self._change_tags(arn, lambda tags: {**tags, **_read_tags(call.request["tags"])})

    def untag_resource(self, call: Call) -> None:
        """Take tags from a task, or from what the emulator keeps."""
        arn, keys = call.request["resourceArn"], call.request["tagKeys"]
        if ":task/" not in arn:
            with _emulator_errors():
                _backend(call).untag_resource(arn, keys)
        else:
            self._change_tags(arn, lambda tags: {key: value for key, value in tags.items() if key not in keys})

    def list_tags(self, call: Call) -> dict[str, Any]:
        """List the tags of a task, or of what the emulator keeps."""
        arn = call.request["resourceArn"]
        if ":task/" not in arn:
            with _emulator_errors():
                return {"tags": _backend(call).list_tags_for_resource(arn)}
        return {"tags": _write_tags(self._change_tags(arn, lambda tags: tags))}

    def _change_tags(self, arn: str, change: Callable[[Mapping[str, str]], Mapping[str, str]]) -> Mapping[str, str]:
        with self._lock:
            if (live := self._live.get(arn)) is None:
                raise ApiError("InvalidParameterException", "The specified task is not found.")
            live.task = replace(live.task, tags=change(live.task.tags))
            return live.task.tags

    # What the emulator keeps

    def _find_cluster(self, call: Call) -> Mapping[str, Any]:
        name = call.request.get("cluster") or "default"
        found: Sequence[Mapping[str, Any]] = self._ground.client("ecs", call.region).describe_clusters(clusters=[name])[
            "clusters"
        ]
        if not found:
            raise ApiError("ClusterNotFoundException", "Cluster not found.")
        if found[0]["status"] != "ACTIVE":
            raise ApiError("ClusterNotFoundException", "The referenced cluster was inactive.")
        return found[0]

    def _find_definition(self, call: Call) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        """Find a request's task definition, and the tags that it hands on to its tasks."""
        ecs = self._ground.client("ecs", call.region)
        try:
            answer = ecs.describe_task_definition(taskDefinition=call.request["taskDefinition"], include=["TAGS"])
        except ecs.exceptions.ClientException as error:
            raise ApiError("InvalidParameterException", "TaskDefinition not found.") from error
        propagated = (
            _read_tags(answer.get("tags", ())) if call.request.get("propagateTags") == "TASK_DEFINITION" else {}
        )
        return answer["taskDefinition"], propagated

    def _forget_old(self) -> None:
        oldest = _now() - timedelta(seconds=KEPT_S)
        for arn, live in list(self._live.items()):
            if live.task.stopped_at and live.task.stopped_at < oldest:
                del self._live[arn]
        now = time.time()
        self._tokens = {
            token: known
            for token, known in self._tokens.items()
            if known.expires_at > now and any(arn in self._live for arn in known.arns)
        }


def _repeat(known: _Answered, asked: str) -> dict[str, Any]:
    """Answer a client token again, or refuse it for another request."""
    if known.fingerprint != asked:
        raise ApiError(
            "ConflictException",
            "The client token was used before with other parameters.",
            resourceIds=list(known.arns),
        )
    return dict(known.answer)


def _choose_provider(request: Mapping[str, Any], cluster: Mapping[str, Any]) -> str | None:
    """Choose the capacity provider; None means the launch type FARGATE."""
    if request.get("launchType"):
        return None
    strategy = request.get("capacityProviderStrategy") or cluster.get("defaultCapacityProviderStrategy") or ()
    if not strategy:
        raise ApiError("InvalidParameterException", "No Container Instances were found in your cluster.")
    return choose_provider(strategy, cluster.get("capacityProviders", ()))


def _task_arn(name: str, cluster_arn: str) -> str:
    """Write a task's ARN from its id; an ARN stays as it is."""
    return name if name.startswith("arn:") else f"{cluster_arn.replace(':cluster/', ':task/')}/{name}"


def _read_tags(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {tag["key"]: tag.get("value", "") for tag in tags}


def _write_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _backend(call: Call) -> EC2ContainerServiceBackend:
    return ecs_backends[call.account][call.region]


@contextmanager
def _emulator_errors() -> Iterator[None]:
    """Let the emulator's refusals reach the caller as what they are."""
    try:
        yield
    except ServiceException as error:
        raise ApiError(error.code, error.message) from error


def _now() -> datetime:
    return datetime.now(UTC)
