"""The process engine: a task's one container runs as a child process of the local AWS and dies with it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from immortal_local.tasks.credentials import CredentialsServer
from immortal_local.tasks.engines import ContainerEnded, ContainerOrder, OpenLog, Sink, TaskNotStarted, TaskOrder
from immortal_local.tasks.records import Ending
from immortal_runner.runtimes.node import cache_home

__all__ = ["RUNNER", "ProcessEngine"]

CONTAINER = "runner"
RUNNER = (sys.executable, "-I", "-m", "immortal_runner")
"""Isolated: neither the working directory nor the user's Python settings reach the runner."""

CHUNK_BYTES = 65536


class ProcessEngine:
    """Runs the container named ``runner`` as a child process.

    Args:
        endpoint: Where the local AWS is reached.
        credentials: Serves the tasks' roles and metadata.
        open_log: Opens the sink for a container's output.
        scratch: Where tasks keep their files.
        command: What runs in place of the container's image.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        credentials: CredentialsServer,
        open_log: OpenLog,
        scratch: Path,
        command: Sequence[str] = RUNNER,
    ) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._open_log = open_log
        self._scratch = scratch
        self._command = tuple(command)

    def open(self) -> None:
        """Serve the credentials on loopback."""
        self._credentials.listen("127.0.0.1")

    def close(self) -> None:
        """Serve no more."""
        self._credentials.close()

    def start(self, order: TaskOrder) -> "RunnerProcess":
        """Start the runner.

        Raises:
            TaskNotStarted: The task has other containers than the runner, or its log can't be opened.
        """
        others = [container.name for container in order.containers if container.name != CONTAINER]
        if others or not order.containers:
            raise TaskNotStarted(
                f"CannotStartContainerError: the process engine runs only a container named {CONTAINER}, not "
                f"{', '.join(others)}. Start the local AWS with --engine docker to run any container."
            )
        container = order.containers[0]
        sink = self._open_log(container.log) if container.log else None
        work_directory = Path(tempfile.mkdtemp(prefix="task-", dir=self._scratch))
        environment = self._environment(order, container, work_directory)
        return RunnerProcess(self._command, environment, work_directory, sink)

    def _environment(self, order: TaskOrder, container: ContainerOrder, work_directory: Path) -> dict[str, str]:
        """Write the environment that a Fargate container has, and of ours only where to find what stands in for it.

        That is the local AWS, and in place of an image's the languages that are installed here.
        """
        served = self._credentials.endpoint
        platform = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(work_directory),
            "XDG_CACHE_HOME": str(cache_home()),
            "TMPDIR": str(work_directory),
            "HOSTNAME": f"ip-10-0-0-1.{order.region}.compute.internal",
            "LANG": "C.UTF-8",
            "AWS_REGION": order.region,
            "AWS_DEFAULT_REGION": order.region,
            "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
            "AWS_ENDPOINT_URL": self._endpoint,
            "ECS_CONTAINER_METADATA_URI_V4": f"{served}{order.metadata_path}",
            "IMMORTAL_WORK_DIR": str(work_directory),
        }
        if order.credentials_path:
            platform["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"{served}{order.credentials_path}"
        return {**platform, **container.environment}


class RunnerProcess:
    """A runner that has been started, with the pipe whose end tells it that the local AWS is gone.

    Args:
        command: What to run.
        environment: All of its environment but the lifeline's number.
        work_directory: Its working directory; removed when the process has ended.
        sink: Where its output goes; None throws it away.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], work_directory: Path, sink: Sink | None
    ) -> None:
        self._work_directory = work_directory
        lifeline, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(
                command,
                env={**environment, "IMMORTAL_LIFELINE_FD": str(lifeline)},
                cwd=work_directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(lifeline,),
                start_new_session=True,
            )
        except OSError as error:
            self._give_back(sink)
            raise TaskNotStarted(f"CannotStartContainerError: {error}") from error
        finally:
            os.close(lifeline)
        self._sink = sink
        assert self._process.stdout is not None  # noqa: S101  # a pipe was asked for
        self._pump = threading.Thread(
            target=_pump, args=(self._process.stdout, sink), name=f"output-{self._process.pid}", daemon=True
        )
        self._pump.start()

    @property
    def runtime_ids(self) -> Mapping[str, str]:
        """The process id."""
        return {CONTAINER: f"pid-{self._process.pid}"}

    def wait(self, ended: ContainerEnded) -> Mapping[str, Ending]:
        """Wait for the runner's end, and leave none of its processes, nor its directory, behind."""
        code = self._process.wait()
        self._signal_group(signal.SIGKILL)
        self._pump.join()
        self._give_back(self._sink)
        ending = Ending(exit_code=code if code >= 0 else 128 - code)
        ended(CONTAINER, ending)
        return {CONTAINER: ending}

    def terminate(self) -> None:
        """Send SIGTERM to the runner alone, as a container's first process gets it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the runner and all its descendants, as the end of a container would."""
        if self._process.poll() is not None:
            return
        doomed = list(_descendants(self._process.pid))
        self._signal_group(signal.SIGKILL)
        for pid in doomed:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _give_back(self, sink: Sink | None) -> None:
        os.close(self._lifeline)
        shutil.rmtree(self._work_directory, ignore_errors=True)
        if sink is not None:
            sink.close()


def _pump(output: BinaryIO, sink: Sink | None) -> None:
    """Carry output to the sink until the last process that holds the pipe is gone."""
    with output:
        while data := output.read1(CHUNK_BYTES):  # type: ignore[attr-defined]
            if sink is not None:
                sink.write(data)


def _descendants(pid: int) -> Iterator[int]:
    """Find the children of a process, and theirs, wherever their process group or session is."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            parent = int(status.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    found = [pid]
    for each in found:
        found.extend(children.get(each, ()))
    yield from found[1:]
