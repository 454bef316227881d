"""The Docker engine: a task's containers run in the local Docker, with the size and credentials that Fargate gives."""

import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import LogConfig
from docker.types import Mount as DockerMount
from requests.exceptions import RequestException

from immortal_local.tasks.credentials import CredentialsServer
from immortal_local.tasks.engines import ContainerEnded, ContainerOrder, OpenLog, Sink, TaskNotStarted, TaskOrder
from immortal_local.tasks.records import Ending

if TYPE_CHECKING:
    from docker.models.containers import Container
    from docker.models.images import Image
    from docker.models.volumes import Volume

__all__ = ["DockerEngine", "EngineMissing", "connect", "find_bridge_address", "find_image"]

LINK_LOCAL = "169.254.170.2"
"""Where Fargate serves credentials, and one of the few addresses that SDKs accept them from."""

OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
KILLED = 128 + signal.SIGKILL
CAUSE_WITHIN_S = 1.0
TASK_LABEL = "immortal-local.task"
OWNER_LABEL = "immortal-local.pid"
LIFELINE_CONTAINER = "runner"
CPU_UNITS = 1024


class EngineMissing(RuntimeError):
    """No Docker engine answers. Who started the local AWS starts Docker, or takes the process engine."""


def connect() -> docker.DockerClient:
    """Connect to the Docker engine that the environment names.

    Raises:
        EngineMissing: It doesn't answer.
    """
    try:
        client = docker.from_env()
        client.ping()
    except (DockerException, RequestException) as error:
        where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        raise EngineMissing(
            f"no Docker engine answers at {where}: {error}. "
            "Next step: start Docker (often: sudo systemctl start docker), or use --engine process."
        ) from error
    return client


def find_bridge_address() -> str:
    """Find this machine's address on Docker's bridge, where containers reach it and nobody outside does.

    Raises:
        EngineMissing: No Docker engine answers.
    """
    client = connect()
    try:
        return _gateway(client)
    finally:
        client.close()


def _bridge(client: docker.DockerClient) -> Mapping[str, Any]:
    attributes: Mapping[str, Any] = client.networks.get("bridge").attrs
    return attributes


def _gateway(client: docker.DockerClient) -> str:
    network = _bridge(client)["IPAM"]["Config"][0]
    # An engine that has just been started for the first time names only the subnet, whose first address it takes.
    return str(network.get("Gateway") or next(ip_network(network["Subnet"]).hosts()))


class DockerEngine:
    """Runs tasks in containers.

    Args:
        endpoint: Where containers reach the local AWS.
        credentials: Serves the tasks' roles and metadata.
        open_log: Opens the sink for a container's output.
    """

    def __init__(self, *, endpoint: str, credentials: CredentialsServer, open_log: OpenLog) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._open_log = open_log
        self._device: str | None = None

    def open(self) -> None:
        """Connect, sweep up after a local AWS that was killed, and serve credentials where Fargate does, if we may."""
        self._client = connect()
        self._sweep()
        device = _bridge(self._client)["Options"].get("com.docker.network.bridge.name", "docker0")
        if _change_address("add", device):
            self._device = device
        try:
            self._credentials.listen(LINK_LOCAL, 80)
        except OSError:  # not permitted, or another local AWS of this machine has it
            self._credentials.listen(_gateway(self._client))

    def close(self) -> None:
        """Serve no more, and give the address back."""
        self._credentials.close()
        if self._device:
            _change_address("del", self._device)
            self._device = None
        self._client.close()

    def start(self, order: TaskOrder) -> "RunningContainers":
        """Create and start a task's containers; all share the first one's network, as in awsvpc mode.

        Raises:
            TaskNotStarted: An image can't be had, or a container doesn't start.
        """
        created: list[_Created] = []
        volumes = self._make_volumes(order)
        try:
            images = {container.image: self._get_image(container.image) for container in order.containers}
            for container in order.containers:
                sink = self._open_log(container.log) if container.log else None
                network = f"container:{created[0].container.id}" if created else "bridge"
                made = self._create(order, container, images[container.image], network, volumes)
                created.append(_Created(container, made, sink))
                created[-1].start()
        except (APIError, TaskNotStarted) as error:
            _remove(created, volumes.values())
            raise TaskNotStarted(_say_not_started(error)) from error
        return RunningContainers(created, volumes.values())

    def _make_volumes(self, order: TaskOrder) -> dict[str, "Volume"]:
        labels = {TASK_LABEL: order.arn, OWNER_LABEL: str(os.getpid())}
        names = {mount.volume for container in order.containers for mount in container.mounts}
        return {name: self._client.volumes.create(labels=labels) for name in sorted(names)}

    def _create(
        self,
        order: TaskOrder,
        container: ContainerOrder,
        image: "Image",
        network: str,
        volumes: Mapping[str, "Volume"],
    ) -> "Container":
        memory_mb = container.memory_mb or order.memory_mb
        lifeline = container.name == LIFELINE_CONTAINER
        created: Container = self._client.containers.create(
            image,
            command=_listed(container.command),
            entrypoint=_listed(container.entry_point),
            environment=self._environment(order, container, lifeline=lifeline),
            labels={TASK_LABEL: order.arn, OWNER_LABEL: str(os.getpid())},
            nano_cpus=(container.cpu or order.cpu) * 1_000_000_000 // CPU_UNITS,
            mem_limit=f"{memory_mb}m",
            memswap_limit=f"{memory_mb}m",
            network_mode=network,
            user=container.user,
            working_dir=container.working_directory,
            read_only=container.read_only,
            init=container.init,
            cap_drop=["ALL"] if container.no_capabilities else None,
            mounts=[
                DockerMount(each.path, volumes[each.volume].name, read_only=each.read_only) for each in container.mounts
            ],
            log_config=LogConfig(type=LogConfig.types.JSON),
            stdin_open=lifeline,
            detach=False,  # with it, the container's stdin ends when we do
        )
        return created

    def _get_image(self, name: str) -> "Image":
        try:
            return find_image(self._client, name)
        except ImageNotFound:
            try:
                return self._client.images.pull(name)
            except (APIError, NotFound) as error:
                raise TaskNotStarted(f"CannotPullContainerError: {name}: {error.explanation or error}") from error

    def _environment(self, order: TaskOrder, container: ContainerOrder, *, lifeline: bool) -> dict[str, str]:
        platform = {
            "AWS_REGION": order.region,
            "AWS_DEFAULT_REGION": order.region,
            "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
            "AWS_ENDPOINT_URL": self._endpoint,
            "ECS_CONTAINER_METADATA_URI_V4": f"{self._served()}{order.metadata_path}",
            **self._credential_variables(order.credentials_path),
        }
        if lifeline:
            platform["IMMORTAL_LIFELINE_FD"] = "0"
        return {**platform, **container.environment}

    def _served(self) -> str:
        return self._credentials.endpoint.removesuffix(":80")

    def _credential_variables(self, path: str | None) -> dict[str, str]:
        """Say where the role's credentials are served, or give them when they can't be served where SDKs look."""
        if path is None:
            return {}
        if self._served() == f"http://{LINK_LOCAL}":
            return {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": path}
        given = self._credentials.read(path)
        return {
            "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
            "AWS_SESSION_TOKEN": given["Token"],
        }

    def _sweep(self) -> None:
        """Remove the containers of a local AWS that is gone; those of one that lives are not ours."""
        for container in self._client.containers.list(all=True, filters={"label": OWNER_LABEL}, ignore_removed=True):
            if not _is_alive(int(container.labels[OWNER_LABEL])):
                with suppress(APIError):
                    container.remove(force=True, v=True)
        for volume in self._client.volumes.list(filters={"label": OWNER_LABEL}):
            if not _is_alive(int(volume.attrs["Labels"][OWNER_LABEL])):
                with suppress(APIError):
                    volume.remove(force=True)


class _Created:
    """One container with its lifeline and its output."""

    def __init__(self, order: ContainerOrder, container: "Container", sink: Sink | None) -> None:
        self.order = order
        self.container = container
        self._sink = sink
        self._lifeline: Any = None
        self._killed = False
        self._not_started: Ending | None = None
        self._output: Iterable[bytes] = ()
        self._pump = threading.Thread(target=self._carry_output, name=f"output-{order.name}", daemon=True)

    def start(self) -> None:
        """Start it; one that isn't essential may fail to, and has ended then."""
        if self.order.name == LIFELINE_CONTAINER:
            self._lifeline = self.container.attach_socket(params={"stdin": 1, "stream": 1})
        # Attached before it starts: a log that is followed can lose the last line of a container that ends at once.
        self._output = self.container.attach(stream=True)
        try:
            self.container.start()
        except APIError as error:
            if self.order.essential:
                raise
            self._not_started = Ending(None, _say_not_started(error))
            return
        self._pump.start()

    def wait(self) -> Ending:
        if self._not_started:
            return self._not_started
        status: int = self.container.wait()["StatusCode"]
        starved = status == KILLED and not self._killed and self._was_starved()
        return Ending(status, OUT_OF_MEMORY if starved else None)

    def _was_starved(self) -> bool:
        """Whether the kernel killed it for memory; Docker can learn of the end before it learns of the cause."""
        deadline = time.monotonic() + CAUSE_WITHIN_S
        while True:
            self.container.reload()
            if self.container.attrs["State"].get("OOMKilled", False):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)

    def signal(self, name: str) -> None:
        self._killed |= name == "SIGKILL"
        with suppress(APIError):  # it has ended already
            self.container.kill(signal=name)

    def remove(self) -> None:
        if self._pump.is_alive():
            self._pump.join(timeout=10)
        if self._sink:
            self._sink.close()
        if self._lifeline:
            self._lifeline.close()
        with suppress(APIError):
            self.container.remove(force=True, v=True)

    def _carry_output(self) -> None:
        for data in self._output:
            if self._sink:
                self._sink.write(data)


class RunningContainers:
    """A task whose containers have been started."""

    def __init__(self, created: Sequence[_Created], volumes: Iterable["Volume"]) -> None:
        self._created = created
        self._volumes = volumes

    @property
    def runtime_ids(self) -> Mapping[str, str]:
        """The containers' ids."""
        return {each.order.name: str(each.container.id) for each in self._created}

    def wait(self, ended: ContainerEnded) -> Mapping[str, Ending]:
        """Wait until an essential container has ended, end the others, remove all, and tell how each ended."""
        seen: queue.SimpleQueue[tuple[_Created, Ending]] = queue.SimpleQueue()
        for each in self._created:
            threading.Thread(target=lambda c=each: seen.put((c, c.wait())), daemon=True).start()
        endings: dict[str, Ending] = {}
        kill_at: float | None = None
        while len(endings) < len(self._created):
            try:
                created, ending = seen.get(timeout=max(kill_at - time.monotonic(), 0) if kill_at else None)
            except queue.Empty:
                self.kill()
                kill_at = None
                continue
            endings[created.order.name] = ending
            ended(created.order.name, ending)
            if created.order.essential and kill_at is None and len(endings) < len(self._created):
                self.terminate()
                kill_at = time.monotonic() + max(each.order.stop_timeout_s for each in self._created)
        _remove(self._created, self._volumes)
        return endings

    def terminate(self) -> None:
        """Ask every container to stop."""
        for each in self._created:
            each.signal("SIGTERM")

    def kill(self) -> None:
        """Kill every container."""
        for each in self._created:
            each.signal("SIGKILL")


def find_image(client: docker.DockerClient, name: str) -> "Image":
    """Find an image of this engine.

    Args:
        name: With a tag or a digest; an image that was never in a registry has its id in the place of the digest.

    Raises:
        ImageNotFound: The engine doesn't have it.
    """
    try:
        return client.images.get(name)
    except ImageNotFound:
        _, found, digest = name.partition("@")
        if not found:
            raise
        return client.images.get(digest)


def _remove(created: Iterable[_Created], volumes: Iterable["Volume"]) -> None:
    for container in reversed(list(created)):  # the first one holds the others' network
        container.remove()
    for volume in volumes:
        with suppress(APIError):
            volume.remove(force=True)


def _listed(words: Sequence[str] | None) -> list[str] | None:
    return list(words) if words else None


def _say_not_started(error: APIError | TaskNotStarted) -> str:
    return (
        str(error) if isinstance(error, TaskNotStarted) else f"CannotStartContainerError: {error.explanation or error}"
    )


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _change_address(change: str, device: str) -> bool:
    """Give Fargate's credentials address to a network device, or take it; False when we may not or it is there."""
    program = shutil.which("ip")
    if program is None:
        return False
    command = [program, "address", change, f"{LINK_LOCAL}/32", "dev", device]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
