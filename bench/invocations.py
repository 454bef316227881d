"""How many invocations a second the execution environment makes, against AWS's own runtime interface emulator."""

import http.client
import platform
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench.lines import Line
from immortal_runner.code.function import Function, read_function
from immortal_runner.code.layout import lay_out
from immortal_runner.execution.credentials import StaticCredentials
from immortal_runner.execution.environment import ExecutionEnvironment
from immortal_runner.execution.outcomes import Returned
from immortal_runner.execution.variables import Paths, function_variables
from immortal_runner.runtime_api.invocations import Invocation

ROUNDS = 15
INVOCATIONS = 400
LIMIT = 1.5

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:measured"
CODE = "def handler(event, context): return event\n"
EVENT = b'{"a": 1}'
CREDENTIALS = StaticCredentials("AKIAEXAMPLE", "secret", "token")
_EMULATORS = {"x86_64": "aws-lambda-rie-x86_64", "aarch64": "aws-lambda-rie-arm64"}

Invoke = Callable[[], bytes]


class Silent:
    """A log that goes nowhere, as the emulator's does here."""

    group, name = "/aws/lambda/measured", "stream"

    def write(self, data: bytes) -> None:
        """Nothing is kept."""

    def end_line(self) -> None:
        """No line is open."""

    def flush(self, timeout_s: float) -> None:
        """Nothing waits."""

    def lose_patience(self) -> None:
        """Nobody ever waits."""

    def close(self) -> None:
        """Nothing is open."""


def measure() -> Iterator[Line]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with _ours(folder) as invoke_ours, _emulators(folder) as invoke_emulators:
            _rate(invoke_ours), _rate(invoke_emulators)  # both warm
            rounds = [(_rate(invoke_ours), _rate(invoke_emulators)) for _ in range(ROUNDS)]
    ours, emulators = (median(rates) for rates in zip(*rounds, strict=True))
    ratio = median(our / emulator for our, emulator in rounds)
    yield Line("invocations a second, through the execution environment", f"{ours:,.0f}/s", "")
    yield Line("  AWS's runtime interface emulator", f"{emulators:,.0f}/s", "")
    yield Line("  the environment is faster by", f"{ratio:.2f} x", f"limit {LIMIT} x")


def _rate(invoke: Invoke) -> float:
    began = time.perf_counter()
    for _ in range(INVOCATIONS):
        answer = invoke()
    assert answer == EVENT, answer
    return INVOCATIONS / (time.perf_counter() - began)


@contextmanager
def _ours(folder: Path) -> Iterator[Invoke]:
    code = folder / "app.zip"
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("app.py", CODE)
    environment = ExecutionEnvironment(
        _function(), lay_out(code, [], folder / "root"), credentials=CREDENTIALS, log=Silent()
    )

    def invoke() -> bytes:
        outcome = environment.invoke(Invocation("7c1f0b52-4b0e-4a6e-9d5b-0a1f6a3f2c11", EVENT, ARN), timeout_s=None)
        assert isinstance(outcome, Returned), outcome
        return outcome.result.read()

    try:
        yield invoke
    finally:
        environment.stop()


@contextmanager
def _emulators(folder: Path) -> Iterator[Invoke]:
    """The emulator with the same client, handler and environment, invoked over one connection."""
    (folder / "app.py").write_text(CODE)
    port, runtime_port = _free_ports(2)
    runtime_api = f"127.0.0.1:{runtime_port}"
    variables = function_variables(
        _function(),
        paths=Paths(),
        runtime_api=runtime_api,
        log_stream=Silent.name,
        credentials=CREDENTIALS.variables(runtime_api),
        extra={},
    )
    addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{port}", "--runtime-api-address", runtime_api]
    process = subprocess.Popen(
        [_fetch_emulator(folder), *addresses, sys.executable, "-m", "awslambdaric", "app.handler"],
        cwd=folder,
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def invoke() -> bytes:
        connection.request("POST", "/2015-03-31/functions/function/invocations", body=EVENT)
        return connection.getresponse().read()

    try:
        _await_listener(port)
        yield invoke
    finally:
        connection.close()
        process.terminate()  # its runtime ends with it
        process.wait()


def _fetch_emulator(folder: Path) -> Path:
    """The emulator's program, out of the wheel of AWS's own tool that brings it."""
    pip = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--dest", str(folder)]
    subprocess.run([*pip, "aws-sam-cli"], check=True)
    (wheel,) = folder.glob("aws_sam_cli-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        program = archive.extract(f"samcli/local/rapid/{_EMULATORS[platform.machine()]}", folder)
    Path(program).chmod(0o755)
    return Path(program)


def _free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def _await_listener(port: int) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < until, f"the emulator does not listen on port {port}"
            time.sleep(0.02)
        else:
            return


def _function() -> Function:
    return read_function(
        {
            "Configuration": {
                "FunctionName": "measured",
                "FunctionArn": ARN,
                "Version": "$LATEST",
                "Runtime": f"python3.{sys.version_info.minor}",
                "Handler": "app.handler",
                "Timeout": 60,
                "Role": "arn:aws:iam::123456789012:role/measured",
                "CodeSha256": "",
                "CodeSize": 0,
                "LastModified": "2026-11-21T10:00:00.000+0000",
                "Architectures": ["arm64" if platform.machine() == "aarch64" else "x86_64"],
            },
            "Code": {},
        }
    )
