from dataclasses import replace

from immortal_runner.execution.variables import Paths, function_variables
from support.functions import FUNCTION


def variables(own: dict[str, str], **changes: str) -> dict[str, str]:
    return function_variables(
        replace(FUNCTION, variables=own, **changes),  # type: ignore[arg-type]
        paths=Paths(),
        runtime_api="127.0.0.1:9001",
        log_stream="stream",
        credentials={"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE"},
        extra={"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
    )


def test_a_customer_may_set_some_names_and_not_others() -> None:
    """Conformance 47."""
    found = variables(
        {"TZ": "Europe/Rome", "PATH": "/x", "_X": "1", "AWS_REGION": "mars", "AWS_LAMBDA_RUNTIME_API": "evil:1"}
    )
    assert (found["TZ"], found["PATH"]) == ("Europe/Rome", "/x")
    assert "_X" not in found
    assert (found["AWS_REGION"], found["AWS_LAMBDA_RUNTIME_API"]) == ("eu-west-1", "127.0.0.1:9001")


def test_a_customers_endpoint_wins_over_the_local_aws() -> None:
    assert variables({"AWS_ENDPOINT_URL": "http://own"})["AWS_ENDPOINT_URL"] == "http://own"


def test_a_proxy_never_hides_the_runtime_api() -> None:
    """Conformance 81."""
    assert variables({"HTTPS_PROXY": "http://dead:1", "no_proxy": "own"})["no_proxy"] == "own,127.0.0.1,localhost"
    assert "no_proxy" not in variables({})


def test_json_logs_set_their_two_variables() -> None:
    """Conformance 49."""
    found = variables({}, log_format="JSON", application_log_level="WARN")
    assert (found["AWS_LAMBDA_LOG_FORMAT"], found["AWS_LAMBDA_LOG_LEVEL"]) == ("JSON", "WARN")
    assert "AWS_LAMBDA_LOG_FORMAT" not in variables({})
