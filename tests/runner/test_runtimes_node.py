"""Real Node processes of AWS's own clients: version 3, as runtimes to nodejs22.x have it, and 4, as newer ones do."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from immortal_runner.execution.environment import ExecutionEnvironment
from immortal_runner.runtimes.node import client_files, find_node
from support.environments import RoomOrBare
from support.functions import ARN, FUNCTION, MemoryLog
from support.invoking import REQUEST_ID, errored, invoke, posted, returned
from support.needs import need

CODE = {"asking.mjs": Path(__file__).with_name("handlers").joinpath("asking.mjs").read_text()}
LAYER = {
    "nodejs/node_modules/answer/index.js": "module.exports = 42",
    "wrapper": '#!/bin/sh\nexport WRAPPED="$#"\nexec "$@"\n',
}
OLD, NEW = "nodejs22.x", "nodejs24.x"


def has_clients() -> bool:
    return find_node() is not None and all(client_files(version) for version in ("3.3.0", "4.0.2"))


@pytest.fixture(scope="module", params=["room", "bare"])
def environments(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RoomOrBare]:
    need("Node's runtime clients (immortal local install)", here=has_clients())
    made = RoomOrBare(tmp_path_factory.mktemp("node"), room=request.param == "room")
    yield made
    made.stop()


@pytest.fixture(scope="module", params=[OLD, NEW])
def asked(request: pytest.FixtureRequest, environments: RoomOrBare) -> ExecutionEnvironment:
    """A function that does what its event says; whoever kills it leaves a fresh process to the next."""
    wrapper = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper", "OWN": "1"}
    return environments.make(
        CODE, layer=LAYER, handler="asking.handler", runtime=request.param, variables=wrapper, memory_mb=256
    )


@pytest.mark.conformance(2)
def test_an_async_handlers_result_comes_back(asked: ExecutionEnvironment) -> None:
    value = {"ü": [1, None, "text"]}
    assert returned(invoke(asked, {"do": "echo", "value": value}, timeout_s=20)) == value


def test_the_context_says_what_the_configuration_says(asked: ExecutionEnvironment) -> None:
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0"
    custom = '{"custom":{"k":"v"}}'
    context = returned(invoke(asked, {"do": "context"}, trace_header=trace, client_context=custom))
    assert context["awsRequestId"] == REQUEST_ID
    assert context["invokedFunctionArn"] == ARN
    assert (context["functionName"], context["functionVersion"]) == (FUNCTION.name, "$LATEST")
    assert context["memoryLimitInMB"] == "256"
    assert (context["logGroupName"], context["logStreamName"]) == (MemoryLog.group, MemoryLog.name)
    assert context["clientContext"] == {"custom": {"k": "v"}}
    assert 1_990_000_000 < context["getRemainingTimeInMillis"] <= 2_000_000_000
    assert ("done" in context["members"]) == (asked.function.runtime == OLD)
    assert context["xRayTraceId" if asked.function.runtime == NEW else "trace"] == trace


def test_node_starts_as_the_managed_runtime_starts_it(asked: ExecutionEnvironment, environments: RoomOrBare) -> None:
    process = returned(invoke(asked, {"do": "process"}))
    heap = ["--max-semi-space-size=12", "--max-old-space-size=231"]
    assert process["flags"] == ["--expose-gc", "--max-http-header-size", "81920", *heap]
    if environments.room:
        assert (process["uid"], process["exe"], process["cwd"]) == (993, "/var/lang/bin/node", "/var/task")
        assert returned(invoke(asked, {"do": "user"})) == "sbx_user1051"


@pytest.mark.conformance(46, 64)
def test_the_environment_is_lambdas_and_passes_through_the_functions_wrapper(
    asked: ExecutionEnvironment, environments: RoomOrBare
) -> None:
    found = returned(invoke(asked, {"do": "environment"}))
    assert found["WRAPPED"] == "7"
    assert found["AWS_EXECUTION_ENV"] == f"AWS_Lambda_{asked.function.runtime}"
    assert found["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert found["OWN"] == "1"
    assert not {"HOME", "HOSTNAME", "PYTHONPATH", "VIRTUAL_ENV", "PYTEST_CURRENT_TEST"} & set(found)
    if environments.room:
        generation = asked.function.runtime.removeprefix("nodejs").removesuffix(".x")
        layers = f"/opt/nodejs/node{generation}/node_modules:/opt/nodejs/node_modules"
        assert found["NODE_PATH"] == f"{layers}:/var/runtime/node_modules:/var/runtime:/var/task"
        assert found["PATH"] == "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"


def test_a_layers_module_is_found(asked: ExecutionEnvironment) -> None:
    assert returned(invoke(asked, {"do": "layer"})) == 42


@pytest.mark.conformance(17)
def test_an_error_says_its_type_and_has_its_trace(asked: ExecutionEnvironment) -> None:
    error = errored(invoke(asked, {"do": "type"}))
    assert (error.family, error.error_type, error.message) == ("handler", "TypeError", "x")
    assert any("asking.mjs" in line for line in error.stack_trace)
    assert errored(invoke(asked, {"do": "own"})).error_type == "Error"


@pytest.mark.conformance(33)
def test_a_timer_that_is_set_to_the_remaining_time_does_not_fire_at_once(asked: ExecutionEnvironment) -> None:
    assert returned(invoke(asked, {"do": "timer", "ms": 300})) is False


@pytest.mark.conformance(29, 30, 31)
def test_what_becomes_of_a_promise_that_nobody_keeps_depends_on_the_client(asked: ExecutionEnvironment) -> None:
    hung = invoke(asked, {"do": "hang"}, timeout_s=20)
    rejected = errored(invoke(asked, {"do": "reject"}, timeout_s=20))
    if asked.function.runtime == OLD:
        assert returned(hung) is None
        assert rejected.error_type == "Runtime.UnhandledPromiseRejection"
    else:
        assert "exited without providing a reason" in errored(hung).message
        assert (rejected.error_type, "exit status 1" in rejected.message) == ("Runtime.ExitError", True)
        assert b"nobody listens" in asked.log_tail


@pytest.mark.conformance(9)
def test_an_event_that_is_no_json_is_an_error_or_the_clients_end(asked: ExecutionEnvironment) -> None:
    error = errored(invoke(asked, b"{no json", timeout_s=20))
    if asked.function.runtime == OLD:
        assert (error.family, error.error_type) == ("handler", "SyntaxError")
    else:
        assert (error.family, error.error_type) == ("exit", "Runtime.ExitError")
    assert returned(invoke(asked, {"do": "echo", "value": 1}, timeout_s=20)) == 1


@pytest.mark.conformance(21)
def test_a_result_that_has_no_json_is_an_error_of_the_handler(asked: ExecutionEnvironment) -> None:
    error = errored(invoke(asked, {"do": "circle"}, timeout_s=20))
    named = "Error" if asked.function.runtime == OLD else "Runtime.JSONStringifyError"
    assert (error.family, error.error_type) == ("handler", named)


@pytest.mark.conformance(14)
def test_a_callback_handler_runs_with_the_old_client(environments: RoomOrBare) -> None:
    environment = environments.make(CODE, handler="asking.callback", runtime=OLD)
    assert returned(invoke(environment, {"value": 7}, timeout_s=20)) == 7


@pytest.mark.conformance(15)
def test_a_callback_handler_is_refused_by_the_new_client(environments: RoomOrBare) -> None:
    environment = environments.make(CODE, handler="asking.callback", runtime=NEW)
    error = errored(invoke(environment, {"value": 7}, timeout_s=20))
    assert (error.family, error.error_type) == ("init", "Runtime.CallbackHandlerDeprecated")


@pytest.mark.conformance(65, 66, 67)
@pytest.mark.parametrize("runtime", [OLD, NEW])
def test_a_streamed_result_is_joined_and_a_broken_one_has_failed_with_what_had_come(
    environments: RoomOrBare, runtime: str
) -> None:
    environment = environments.make(CODE, handler="asking.stream", runtime=runtime)
    assert posted(invoke(environment, {"ms": 1}, timeout_s=20)) == b"first,second"
    broken = errored(invoke(environment, {"ms": 1, "throw": True}, timeout_s=20))
    assert (broken.family, broken.error_type, broken.message) == ("handler", "RangeError", "in the middle")
    assert broken.partial is not None
    assert broken.partial.read() == b"first,second"
    killed = errored(invoke(environment, {"ms": 200, "die": True}, timeout_s=20))
    assert "signal: killed" in killed.message
    assert killed.partial is not None
    assert killed.partial.read() == b"first,second"
