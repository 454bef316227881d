"""The script in the function's container and the runner's side of it, as two processes on this machine."""

import ast
import json
import os
import queue
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immortal_lambda.errors import ServiceUnavailable
from immortal_runner.code.function import Image
from immortal_runner.execution.credentials import StaticCredentials
from immortal_runner.execution.environment import ExecutionEnvironment
from immortal_runner.execution.outcomes import Errored, Outcome, Returned
from immortal_runner.neighbours.neighbour import (
    ContainerEnd,
    ContainerGone,
    ContainerNotStarted,
    Neighbour,
    NeighbourProcess,
    read_status,
)
from immortal_runner.neighbours.shell import export_lines
from immortal_runner.runtime_api.invocations import Invocation
from support.functions import FUNCTION, MemoryLog
from support.needs import need

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]
APART = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def namespaces_work() -> bool:
    return (
        bool(shutil.which("unshare"))
        and subprocess.run([*APART, "true"], check=False, capture_output=True).returncode == 0
    )


@dataclass
class Stage:
    """A container's first process, without the container."""

    folder: Path
    shell: str = SHELLS[0]
    end: ContainerEnd | None = None
    exits: "queue.SimpleQueue[int]" = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        self.neighbour = Neighbour(self.folder, look=lambda: self.end)
        self.read_end, self.write_end = self.neighbour.open_pipe()
        self.process: subprocess.Popen[bytes] | None = None

    def arrive(self, *words: str) -> None:
        shell = [self.shell, *(["sh"] if self.shell == "busybox" else [])]
        self.process = subprocess.Popen(
            [*APART, *shell, str(self.folder / "enter"), *words], env={"KEPT": "by the image"}
        )
        self.neighbour.await_arrival(timeout_s=10)

    def run(self, **variables: str) -> NeighbourProcess:
        return self.neighbour.run(variables, output=-1, on_exit=self.exits.put)

    def read(self) -> bytes:
        return os.read(self.read_end, 65536)

    def close(self) -> None:
        self.neighbour.close()
        if self.process is not None:
            self.process.wait(10)
        os.close(self.read_end)
        os.close(self.write_end)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def make(folder: Path) -> Iterator[Callable[..., Stage]]:
    need("namespaces of our own (unshare)", here=namespaces_work())
    made: list[Stage] = []

    def make(*words: str, shell: str = SHELLS[0]) -> Stage:
        made.append(Stage(folder, shell))
        made[-1].arrive(*words)
        return made[-1]

    yield make
    for each in made:
        each.close()


Make = Callable[..., Stage]


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


SHOW = python("import json, os; print(json.dumps(dict(os.environ)))")
WAITS = python("import time; print('ready', flush=True); time.sleep(60)")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_program_finds_its_variables_and_what_the_image_sets_and_nothing_of_ours(make: Make, shell: str) -> None:
    stage = make(*SHOW, shell=shell)
    given = {"PATH": os.environ["PATH"], "TEXT": 'it\'s\n$HOME `x` \\ "q"', "UID": "7", "PPID": "8", "name": "own"}
    stage.run(**given)
    assert stage.exits.get(timeout=5) == 0
    found = json.loads(stage.read())
    for name in ("_", "LC_CTYPE"):  # every shell's own, and Python's
        found.pop(name, None)
    assert found == {"KEPT": "by the image", **given}


def test_its_words_reach_the_program_one_by_one(make: Make) -> None:
    stage = make(*python("import sys; print(sys.argv[1:])"), "a b", "", "$HOME", "*")
    stage.run()
    assert stage.exits.get(timeout=5) == 0
    assert stage.read() == b"['a b', '', '$HOME', '*']\n"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("code", "status"),
    [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", -9), ("import os; os.abort()", -6)],
)
def test_how_the_program_ends_is_told_and_it_can_be_started_again(
    make: Make, shell: str, code: str, status: int
) -> None:
    stage = make(*python(code), shell=shell)
    for _ in range(3):
        stage.run()
        assert stage.exits.get(timeout=5) == status


def test_a_program_that_is_not_there_ends_with_127_and_says_so_in_its_log(make: Make) -> None:
    stage = make("/no/such/program")
    stage.run()
    assert stage.exits.get(timeout=5) == 127
    assert b"/no/such/program" in stage.read()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_program_can_be_interrupted_as_any_first_process_can(make: Make, shell: str) -> None:
    ignored = "import signal; print([signal.getsignal(n) is signal.SIG_IGN for n in (2, 3, 15)])"
    stage = make(*python(ignored), shell=shell)
    stage.run()
    assert stage.exits.get(timeout=5) == 0
    assert stage.read() == b"[False, False, False]\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_handler_for_sigterm_is_seen_and_gets_its_signal(make: Make, shell: str) -> None:
    code = "import signal, sys; signal.signal(15, lambda *_: sys.exit(5)); print('ready', flush=True); signal.pause()"
    stage = make(*python(code), shell=shell)
    process = stage.run()
    assert stage.read() == b"ready\n"
    assert process.catches_sigterm()
    assert process.peak_memory_mb() > 1
    process.terminate()
    assert stage.exits.get(timeout=5) == 5
    assert process.wait(1)
    assert process.peak_memory_mb() == 0


def test_a_program_without_a_handler_is_seen_too(make: Make) -> None:
    stage = make(*WAITS)
    process = stage.run()
    assert stage.read() == b"ready\n"
    assert not process.catches_sigterm()
    process.kill()
    assert stage.exits.get(timeout=5) == -9


DETACHED = """
import os, subprocess, sys, time
for _ in range(20):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print("ready", flush=True)
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_that_a_program_started_outlives_it(make: Make, shell: str) -> None:
    stage = make(*python(DETACHED), shell=shell)
    stage.run()
    assert stage.exits.get(timeout=10) == 0
    assert stage.process is not None
    (script,) = psutil.Process(stage.process.pid).children()
    eventually(lambda: all(each.status() == psutil.STATUS_ZOMBIE for each in script.children(recursive=True)))


def test_the_first_process_can_not_be_killed_by_its_program(make: Make) -> None:
    stage = make(*python("import os; os.kill(1, 9); os.kill(-1, 9)"))
    for _ in range(2):
        stage.run()
        assert stage.exits.get(timeout=5) == 0


def test_when_the_runner_is_gone_nothing_is_left(make: Make) -> None:
    stage = make(*WAITS)
    stage.run()
    assert stage.read() == b"ready\n"
    stage.neighbour.close()
    assert stage.process is not None
    assert stage.process.wait(5) == 0


def test_a_container_that_dies_ends_its_program(make: Make) -> None:
    stage = make(*WAITS)
    process = stage.run()
    assert stage.read() == b"ready\n"
    stage.end = ContainerEnd(137, "OutOfMemoryError: Container killed due to memory usage")
    assert stage.process is not None
    (script,) = psutil.Process(stage.process.pid).children()
    script.kill()
    assert stage.exits.get(timeout=5) == -9
    assert process.ran_out_of_memory()
    with pytest.raises(ContainerGone):
        stage.run()


FORGES = """
import os, time
said = os.open(os.path.join(os.environ["FOLDER"], "said"), os.O_WRONLY)
os.write(said, b"exit 1 0 0\\npid 1 999999 0\\n" + b"x" * 100_000 + b"\\nstatus 5 zz zz zz\\nexit 9 9 9\\nfound x\\n")
time.sleep(60)
"""


def test_a_program_that_forges_what_the_script_tells_spoils_its_own_outcome_alone(make: Make) -> None:
    stage = make(*python(FORGES))
    process = stage.run(FOLDER=str(stage.folder))
    assert stage.exits.get(timeout=5) == 0
    process.kill()
    stage.run(FOLDER="/")
    assert stage.exits.get(timeout=5) == 1, "the second start is one of its own"


def test_only_the_functions_group_may_read_its_variables_while_it_runs(make: Make) -> None:
    stage = make(*WAITS)
    process = stage.run(SECRET="hush")
    modes = {file.name: stat.filemode(file.stat().st_mode) for file in stage.folder.iterdir()}
    assert modes == {
        "enter": "-r--r-----",
        "order": "prw-r-----",
        "output": "prw--w----",
        "said": "prw--w----",
        "variables-1": "-r--r-----",
    }
    assert stat.filemode(stage.folder.stat().st_mode) == "drwxr-xr-x"
    process.kill()
    assert not list(stage.folder.glob("variables*"))


def test_a_container_that_ended_before_it_came_up_is_told_with_the_step(folder: Path) -> None:
    end = ContainerEnd(127, 'exec: "/bin/sh": no such file')
    neighbour = Neighbour(folder, look=lambda: end)
    with pytest.raises(ContainerNotStarted, match=r"exit code 127.*no such file.*Next step: mend the image"):
        neighbour.await_arrival()
    neighbour.close()


def test_a_container_that_never_comes_is_times_matter(folder: Path) -> None:
    neighbour = Neighbour(folder, look=lambda: None)
    with pytest.raises(ServiceUnavailable, match="did not come up"):
        neighbour.await_arrival(timeout_s=0)
    with pytest.raises(ServiceUnavailable, match="was stopped"):
        neighbour.await_arrival(stopped=lambda: True)
    neighbour.close()


def test_the_script_does_nothing_unless_it_is_a_containers_first_process(folder: Path) -> None:
    neighbour = Neighbour(folder, look=lambda: None)
    done = subprocess.run([SHELLS[0], folder / "enter"], capture_output=True, check=False, timeout=5)
    assert done.returncode == 125
    neighbour.close()


@pytest.mark.parametrize(("said", "status"), [("0", 0), ("3", 3), ("128", 128), ("137", -9), ("200", 200), ("x", 0)])
def test_a_shells_status_is_read(said: str, status: int) -> None:
    assert read_status(said) == status


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{1,8}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(NAMES, TEXTS, max_size=20))
def test_a_shell_reads_every_variable_as_it_was_written(variables: dict[str, str]) -> None:
    variables = {name: value for name, value in variables.items() if name not in {"PATH", "PWD", "SHLVL"}}
    script = f'{export_lines(variables)}exec "$@"'
    show = [
        sys.executable,
        "-I",
        "-c",
        "import os, sys; sys.stdout.buffer.write(bytes(repr(dict(os.environb)), 'ascii'))",
    ]
    for shell in ("dash", "bash"):
        if found := shutil.which(shell):
            done = subprocess.run(
                [found, "-c", script, "x", *show], env={"PATH": os.defpath}, capture_output=True, check=True
            )
            shown = ast.literal_eval(done.stdout.decode())
            assert {name: shown.get(name.encode()) for name in variables} == {
                name: value.encode() for name, value in variables.items()
            }


def eventually(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


HANDLER = """
import os, time
def handler(event, context):
    print("working", flush=True)
    if event == "die":
        os.kill(os.getpid(), 9)
    return [os.environ["AWS_EXECUTION_ENV"], os.environ.get("PATH"), context.aws_request_id]
"""


@contextmanager
def environment(stage: Stage) -> Iterator[tuple[ExecutionEnvironment, MemoryLog]]:
    log = MemoryLog()
    of_image = replace(FUNCTION, runtime="", handler="", image=Image("app@sha256:0"), variables={"PATH": os.defpath})
    made = ExecutionEnvironment(of_image, stage.neighbour, credentials=StaticCredentials("A", "s"), log=log)
    try:
        yield made, log
    finally:
        made.stop()


def invoke(made: ExecutionEnvironment, event: str) -> Outcome:
    return made.invoke(Invocation("r-1", json.dumps(event).encode(), FUNCTION.arn), timeout_s=None)


def test_an_environment_with_a_neighbour_is_one_like_any_other(make: Make, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HANDLER)
    client = f"import os, sys; sys.path.insert(0, {str(tmp_path)!r}); os.environ['_HANDLER'] = 'app.handler'; "
    stage = make(sys.executable, "-c", client + "from awslambdaric.__main__ import main; main(['', 'app.handler'])")
    with environment(stage) as (made, log):
        first = invoke(made, "work")
        assert isinstance(first, Returned), first
        assert json.loads(first.result.read()) == ["AWS_Lambda_Image", os.defpath, "r-1"]
        died = invoke(made, "die")
        assert isinstance(died, Errored)
        assert (died.family, died.error_type) == ("exit", "Runtime.ExitError")
        assert "signal: killed" in died.message
        assert isinstance(invoke(made, "work"), Returned)
    words = [line.split()[0] for line in log.text.splitlines() if line]
    assert [word for word in words if word in {"START", "working", "END"}] == ["START", "working", "END"] * 3


def test_an_image_that_never_asks_for_an_event_is_told_so(make: Make) -> None:
    stage = make(*WAITS)
    stage.neighbour.init_limit_s = 0.3
    with environment(stage) as (made, _):
        outcome = invoke(made, "work")
    assert isinstance(outcome, Errored)
    assert (outcome.family, outcome.error_type) == ("init", "Runtime.NeverAsked")
    assert "emulator" in outcome.message


CATCHES = """
import signal, sys, time
def handler(event, context):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))
    print("working", flush=True)
    time.sleep(60)
"""


def test_a_handler_in_the_other_container_is_interrupted_with_its_signal(make: Make, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(CATCHES)
    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
    stage = make(sys.executable, "-c", path + "from awslambdaric.__main__ import main; main(['', 'app.handler'])")
    with environment(stage) as (made, log), ThreadPoolExecutor(1) as threads:
        outcome = threads.submit(invoke, made, "work")
        eventually(lambda: b"working" in log.data)
        made.interrupt(5)
        ended = outcome.result(timeout=5)
    assert isinstance(ended, Errored)
    assert ended.family == "interrupted"
