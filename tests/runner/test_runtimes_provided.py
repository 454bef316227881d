"""Real programs of functions whose runtime is ``provided``: a shell script around curl, and a compiled one."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.environments import RoomOrBare
from support.functions import MemoryLog
from support.invoking import REQUEST_ID, errored, invoke, posted, returned
from support.needs import need

SHELL = """\
#!/bin/sh
set -eu
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while :; do
  head=$(mktemp) result=$(mktemp)
  event=$(curl -sS -D "$head" "$api/next")
  id=$(grep -i '^lambda-runtime-aws-request-id:' "$head" | tr -d '[:space:]' | cut -d: -f2)
  case "$event" in
    *big*) head -c 3000000 /dev/zero | tr '\\0' x > "$result" ;;
    *environment*) env > "$result" ;;
    *) pwd > "$result" ;;
  esac
  curl -sS -X POST --data-binary @"$result" "$api/$id/response" > /dev/null
  rm "$head" "$result"
done
"""


@pytest.fixture(scope="module", params=["room", "bare"])
def environments(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RoomOrBare]:
    made = RoomOrBare(tmp_path_factory.mktemp("provided"), room=request.param == "room")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    compiler = shutil.which("gcc")
    need("gcc", here=compiler is not None)
    program = tmp_path_factory.mktemp("compiled") / "bootstrap"
    source = Path(__file__).with_name("handlers") / "bootstrap.c"
    subprocess.run([str(compiler), "-D_GNU_SOURCE", "-O1", "-o", program, source], check=True)
    return program.read_bytes()


@pytest.mark.conformance(5, 46, 81)
def test_a_shell_script_around_curl_posts_3_mb_whole_in_spite_of_a_dead_proxy(environments: RoomOrBare) -> None:
    need("curl", here=shutil.which("curl") is not None)
    proxy = {"http_proxy": "http://127.0.0.1:9", "AWS_LAMBDA_EXEC_WRAPPER": "/opt/ignored"}
    environment = environments.make({"bootstrap": SHELL}, runtime="provided.al2023", variables=proxy)
    assert posted(invoke(environment, "big", timeout_s=20)) == b"x" * 3_000_000
    lines = posted(invoke(environment, "environment", timeout_s=20)).decode().splitlines()
    found = {name: value for name, _, value in (line.partition("=") for line in lines)}
    assert not {"AWS_EXECUTION_ENV", "PYTHONPATH", "NODE_PATH", "HOME", "HOSTNAME"} & set(found)
    assert (found["_HANDLER"], found["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]) == ("app.handler", "128")
    if environments.room:
        assert found["PATH"] == "/usr/local/bin:/usr/bin/:/bin:/opt/bin"
        assert found["LD_LIBRARY_PATH"].startswith("/lib64:/usr/lib64:/var/runtime:")


def test_a_compiled_program_answers(environments: RoomOrBare, compiled: bytes) -> None:
    environment = environments.make({"bootstrap": compiled}, runtime="provided.al2023")
    for value in ({"a": 1}, [2]):
        assert returned(invoke(environment, value, timeout_s=20)) == value


def test_a_layer_may_bring_the_program(environments: RoomOrBare, compiled: bytes) -> None:
    environment = environments.make({"x": ""}, layer={"bootstrap": compiled}, runtime="provided.al2")
    assert returned(invoke(environment, 1, timeout_s=20)) == 1


@pytest.mark.conformance(55)
@pytest.mark.parametrize(
    ("files", "programs", "says"),
    [
        ({"main": SHELL}, True, "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"),
        ({"bootstrap/main": SHELL}, True, "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"),
        ({"bootstrap": SHELL}, False, "fork/exec /var/task/bootstrap: permission denied"),
        ({"bootstrap": "#!/bin/sh\r\ntrue\r\n"}, True, "fork/exec /var/task/bootstrap: no such file or directory"),
        ({"bootstrap": b"\x7fELF" + bytes(60)}, True, "fork/exec /var/task/bootstrap: exec format error"),
    ],
    ids=["none", "folder", "made on Windows", "Windows' line ends", "other processor"],
)
def test_a_program_that_cannot_be_started_fails_in_lambdas_words(
    tmp_path: Path, files: dict[str, str | bytes], says: str, *, programs: bool
) -> None:
    log = MemoryLog()
    environments = RoomOrBare(tmp_path, room=False)
    environment = environments.make(files, programs=programs, log=log, runtime="provided.al2023")
    error = errored(invoke(environment))
    environments.stop()
    assert (error.family, error.error_type) == ("init", "Runtime.InvalidEntrypoint")
    assert error.message == json.loads(error.body)["errorMessage"] == f"RequestId: {REQUEST_ID} Error: {says}"
