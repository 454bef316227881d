from dataclasses import replace

import pytest

from immortal_runner.code.function import Image
from immortal_runner.execution.variables import Paths, function_variables
from immortal_runner.runtimes.interpreters import find_interpreter
from immortal_runner.runtimes.machine import this_machine
from support.functions import FUNCTION


def variables(own: dict[str, str], **changes: object) -> dict[str, str]:
    return function_variables(
        replace(FUNCTION, variables=own, **changes),  # type: ignore[arg-type]
        paths=Paths(),
        runtime_api="127.0.0.1:9001",
        log_stream="stream",
        credentials={"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE"},
        extra={"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
    )


COMMON = {
    "_AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1",
    "_AWS_XRAY_DAEMON_PORT": "2000",
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
    "AWS_LAMBDA_FUNCTION_NAME": "report-builder",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/report-builder",
    "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
    "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
    "AWS_REGION": "eu-west-1",
    "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
    "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
    "LAMBDA_RUNTIME_DIR": "/var/runtime",
    "LAMBDA_TASK_ROOT": "/var/task",
}
OF_ZIPS = {"_HANDLER": "app.handler", "LANG": "en_US.UTF-8", "TZ": ":UTC"}
LIBRARIES = "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
WITH_LANG = {
    "LD_LIBRARY_PATH": f"/var/lang/lib:{LIBRARIES}",
    "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
}
WITHOUT_LANG = {"LD_LIBRARY_PATH": LIBRARIES, "PATH": "/usr/local/bin:/usr/bin/:/bin:/opt/bin"}


@pytest.mark.conformance(46)
@pytest.mark.parametrize(
    ("runtime", "own"),
    [
        *((name, WITH_LANG) for name in ("python3.13", "nodejs22.x", "ruby3.3", "java21", "dotnet8")),
        ("java11", WITH_LANG | {"AWS_ACCESS_KEY": "AKIAEXAMPLE"}),
        ("provided.al2023", WITHOUT_LANG),
    ],
)
def test_the_environment_is_the_one_that_was_recorded_on_lambda(runtime: str, own: dict[str, str]) -> None:
    named = {} if runtime.startswith("provided") else {"AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}"}
    assert variables({}, runtime=runtime) == COMMON | OF_ZIPS | named | own


@pytest.mark.conformance(46)
def test_an_image_brings_its_paths_its_language_and_its_handler_itself() -> None:
    assert variables({}, image=Image("repository@sha256:1"), runtime="") == COMMON | {
        "AWS_EXECUTION_ENV": "AWS_Lambda_Image"
    }


@pytest.mark.conformance(46)
@pytest.mark.parametrize(
    ("runtime", "added"),
    [
        ("python3.11", {"PYTHONPATH": "/var/runtime", "PWD": "/var/task", "SHLVL": "0"}),
        ("python3.12", {"PYTHONPATH": "/var/runtime", "PWD": "/var/task", "SHLVL": "0", "LC_CTYPE": "C.UTF-8"}),
    ],
)
def test_a_client_that_we_start_finds_what_its_bootstrap_would_have_added(runtime: str, added: dict[str, str]) -> None:
    interpreter = find_interpreter(this_machine(), replace(FUNCTION, runtime=runtime))
    assert interpreter is not None
    assert interpreter.variables(Paths()) == added


@pytest.mark.conformance(47)
def test_a_customer_may_set_some_names_and_not_others() -> None:
    found = variables(
        {"TZ": "Europe/Rome", "PATH": "/x", "_X": "1", "AWS_REGION": "mars", "AWS_LAMBDA_RUNTIME_API": "evil:1"}
    )
    assert (found["TZ"], found["PATH"]) == ("Europe/Rome", "/x")
    assert "_X" not in found
    assert (found["AWS_REGION"], found["AWS_LAMBDA_RUNTIME_API"]) == ("eu-west-1", "127.0.0.1:9001")


def test_a_customers_endpoint_wins_over_the_local_aws() -> None:
    assert variables({"AWS_ENDPOINT_URL": "http://own"})["AWS_ENDPOINT_URL"] == "http://own"


@pytest.mark.conformance(81)
def test_a_proxy_never_hides_the_runtime_api() -> None:
    assert variables({"HTTPS_PROXY": "http://dead:1", "no_proxy": "own"})["no_proxy"] == "own,127.0.0.1,localhost"
    assert "no_proxy" not in variables({})


@pytest.mark.conformance(49)
def test_json_logs_set_their_two_variables() -> None:
    found = variables({}, log_format="JSON", application_log_level="WARN")
    assert (found["AWS_LAMBDA_LOG_FORMAT"], found["AWS_LAMBDA_LOG_LEVEL"]) == ("JSON", "WARN")
    assert "AWS_LAMBDA_LOG_FORMAT" not in variables({})
